"""Publishes the model of a run: python -m conv_draw.pretrained --workdir=RUN --out=DIR."""

from absl import flags

from conv_draw import command_line
from conv_draw.training import trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import published

PROGRAM = 'conv_draw.pretrained'
WORKDIR = flags.DEFINE(command_line.Path(), 'workdir', None, 'The run to publish.')
OUT = flags.DEFINE(command_line.Path(), 'out', None, 'The new directory.')


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, OUT.value):
    command_line.check_given(argv, WORKDIR, OUT)
    run = trained.load(config_lib.load(WORKDIR.value), WORKDIR.value)
    published.write(run.workdir, trained.logs(run.workdir), run.params, run.step, OUT.value)


if __name__ == '__main__':
  command_line.start(PROGRAM, main)

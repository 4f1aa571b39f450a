"""Makes a directory with a trained model alone of a run: python -m conv_draw.pretrained --help."""

from absl import app, flags

from conv_draw import command_line, pretrained, trained
from conv_draw import config as config_lib

WORKDIR = flags.DEFINE_string('workdir', None, 'The run.', required=True)
OUT = flags.DEFINE_string('out', None, 'The directory to make.', required=True)


def main(argv):
  del argv
  with command_line.errors_in_one_line('conv_draw.pretrained', OUT.value):
    _, params, step, _ = trained.load_model(config_lib.load(WORKDIR.value), WORKDIR.value)
    pretrained.write(WORKDIR.value, trained.logs(WORKDIR.value), params, step, OUT.value)


if __name__ == '__main__':
  app.run(main)

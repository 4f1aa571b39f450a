"""Makes a directory with a trained model alone of a run: python -m conv_draw.pretrained --help."""

import sys

from absl import app, flags, logging

from conv_draw import config as config_lib
from conv_draw import pretrained, trained
from conv_draw.errors import UserError

WORKDIR = flags.DEFINE_string('workdir', None, 'The run.', required=True)
OUT = flags.DEFINE_string('out', None, 'The directory to make.', required=True)


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)
  try:
    _, params, step, _ = trained.load_model(config_lib.load(WORKDIR.value), WORKDIR.value)
    pretrained.write(WORKDIR.value, params, step, OUT.value)
  except UserError as e:
    print('conv_draw.pretrained:', e, file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  app.run(main)

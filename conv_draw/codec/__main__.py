"""Archives of images, losslessly, by bits-back coding with a trained model.

  python -m conv_draw.codec archive FOLDER FILE --workdir=runs/NAME
  python -m conv_draw.codec extract FILE FOLDER --workdir=runs/NAME
  python -m conv_draw.codec info FILE
"""

import os
import sys

from absl import app, flags, logging

from conv_draw.errors import UserError

WORKDIR = flags.DEFINE_string('workdir', None, 'The run whose model is used.')
COMMANDS = {'archive': 2, 'extract': 2, 'info': 1}  # and how many paths each takes


def parse(argv):
  """Parses the command line; a mistake in it ends in one line and exit status 2."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as e:
    fail(e)


def main(argv):
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)
  command, *paths = argv[1:] or ['']
  if COMMANDS.get(command) != len(paths):
    fail('say archive FOLDER FILE, extract FILE FOLDER, or info FILE')
  if command != 'info' and not WORKDIR.value:
    fail('name a trained run: --workdir=runs/NAME')
  try:
    if command == 'info':
      from conv_draw.codec import container  # info needs no model, nor JAX
      print(container.describe_archive(
          *container.read_archive(container.read_file(paths[0]), source=paths[0])))
      return
    from conv_draw.codec import archive
    if command == 'archive':
      print(archive.write(paths[0], paths[1], WORKDIR.value))
    else:
      print(archive.extract(paths[0], paths[1], WORKDIR.value))
  except UserError as e:
    fail(e)
  except OSError as e:
    fail(f'{e}: check {" and ".join(map(os.path.abspath, paths))}, permissions and space')


def fail(message):
  print('conv_draw.codec:', ' '.join(str(message).split()), file=sys.stderr)
  sys.exit(2)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)

"""Images to files and back, with a trained model.

  python -m conv_draw.codec encode IMAGE FILE [--workdir=runs/NAME] [--lossless [--no-verify]]
      [--effort=1] [--tile=N] [--bits-per-dim=R] [--psnr=D] [--groups=T]
  python -m conv_draw.codec decode FILE IMAGE [--workdir=runs/NAME] [--partial] [--temperature=1]
  python -m conv_draw.codec archive FOLDER FILE --workdir=runs/NAME
  python -m conv_draw.codec extract FILE FOLDER --workdir=runs/NAME
  python -m conv_draw.codec info FILE
  python -m conv_draw.codec view FILE [PAGE]
  python -m conv_draw.codec list

encode and decode also take a folder of images and a folder of files; a file that fails is named,
and the others are coded. `-` is standard input or output, where decode writes a PNG. Without a
limit, a photograph is stored at 36 dB, about the quality of JPEG at 85 to 90. Without --workdir
they use the packaged models, one for lossy files and one for lossless files; --model=NAME takes
another model of `list`. No file is overwritten without --overwrite, and an input file never.
"""

import json
import math
import os
import sys

from absl import flags

from conv_draw import command_line
from conv_draw.codec import output_paths
from conv_draw.codec.format import limits
from conv_draw.errors import UserError
from conv_draw.machine import streams

PROGRAM = 'conv_draw.codec'
WORKDIR = flags.DEFINE(
    command_line.Path(), 'workdir', None, 'The run whose model is used. Default: encode: '
    'conv_draw/pretrained/photos_lossless with --lossless, photos_lossy without; decode: the '
    'packaged model that coded the file.')
MODEL = flags.DEFINE_string(
    'model', None, 'In place of --workdir: a model that comes with the package, of `list`.')
LOSSLESS = flags.DEFINE_bool('lossless', False, 'encode: store the pixels exactly.')
NO_VERIFY = flags.DEFINE_bool(
    'no_verify', False, 'encode --lossless: do not decode what is written to compare it, which '
    'takes longer than encoding.')
EFFORT = flags.DEFINE_integer(
    'effort', 0, 'encode: 1 or 2, for smaller or better files. --lossless: tune the parameters '
    'of the integer network to each image; 1 takes a quarter of a minute, 2 minutes. Lossy: '
    'optimise the latents of each image; 1 takes a minute, 2 longer.',
    lower_bound=0, upper_bound=2)
BITS_PER_DIM = flags.DEFINE_float(
    'bits_per_dim', None, 'encode: store as many groups of latents as fit into this rate.',
    lower_bound=0)
PSNR = flags.DEFINE_float(
    'psnr', None, 'encode: the smallest file of this quality, in dB. The search takes ten times as '
    'long as the default: as few groups as have 36 dB, about the quality of JPEG at 85 to 90.',
    lower_bound=0)
GROUPS = flags.DEFINE_integer(
    'groups', None, 'encode: store this many groups of latents. The model of photographs has 18, '
    'which give 45 dB.', lower_bound=0)
TILE = flags.DEFINE_integer(
    'tile', None, 'encode: code in tiles of at most this side, 0 = whole. Default: whole if small.',
    lower_bound=0, upper_bound=limits.MAX_SIDE)
PARTIAL = flags.DEFINE_bool('partial', False, 'decode, info: accept a file cut anywhere.')
TEMPERATURE = flags.DEFINE_float(
    'temperature', 0.0, 'decode: of the prior that generates missing groups. 0: its mean or, with '
    'the models of lossy files, without these groups.',
    lower_bound=0, upper_bound=10)
JSON = flags.DEFINE_bool(
    'json', False, 'encode, decode, info, view: print JSON, of each file an object in one line.')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace files that exist.')
for rate in (BITS_PER_DIM, PSNR, TEMPERATURE):  # NaN and infinity satisfy a lower bound
  flags.register_validator(
      rate.name, lambda value: value is None or math.isfinite(value), 'give a number')
# The commands and their numbers of paths.
COMMANDS = {'encode': (2,), 'decode': (2,), 'archive': (2,), 'extract': (2,), 'info': (1,),
            'view': (1, 2), 'list': (0,)}


def parse(argv):
  """Parses the command line; a mistake in it ends in one line and exit status 2."""
  given, names = command_line.split(argv)
  given = [given[0], *map(_with_underscores, given[1:])]
  return command_line.parse_flags(PROGRAM)([*given, *names])


def _with_underscores(argument):
  """--bits-per-dim=1 is --bits_per_dim=1; what is no flag stays as it is."""
  name, *value = argument.split('=', 1)
  flag = '--' + name[2:].replace('-', '_')
  known = argument.startswith('--') and flag[2:] in flags.FLAGS
  return '='.join([flag, *value]) if known else argument


def main(argv):
  command, *paths = argv[1:] or ['']
  named = ' and '.join(map(os.path.abspath, paths)) or 'standard output'
  with command_line.errors_in_one_line(PROGRAM, named):
    check(command, paths)
    if command == 'list':
      from conv_draw.workdir import published  # imports JAX
      print('\n'.join(published.listing()))
      return
    if paths[0] == output_paths.PIPE:
      streams.check_for_bytes('stdin')
      paths[0] = '/dev/stdin'
    if command == 'info':
      from conv_draw.codec.format import description  # info needs no model
      if JSON.value:
        print(json.dumps(description.fields(paths[0], PARTIAL.value)))
      else:
        print(description.describe_file(paths[0], PARTIAL.value))
      return
    failed = False
    for line in run(command, paths):
      failed = failed or line.failed
      if line.failed or line.note:
        print(f'{PROGRAM}: {line.text}', file=sys.stderr, flush=True)
      elif not JSON.value:
        print(line.text, flush=True)
      elif line.fields:
        print(json.dumps(line.fields), flush=True)
    if failed:
      sys.exit(2)


def check(command, paths):
  if len(paths) not in COMMANDS.get(command, ()):
    raise UserError(
        'say encode IMAGE FILE, decode FILE IMAGE, archive FOLDER FILE, extract FILE FOLDER, '
        'info FILE, view FILE [PAGE], or list')
  if MODEL.value and WORKDIR.value:
    raise UserError('--model and --workdir both name a model: leave one out')
  if command in ('archive', 'extract') and not (WORKDIR.value or MODEL.value):
    raise UserError('name a trained run with Gaussian posteriors: --workdir=runs/NAME')
  if JSON.value and command in ('archive', 'extract', 'list'):
    raise UserError(f'--json is not of {command}: leave it out')
  if command == 'view' and paths == ['-']:
    raise UserError('of what comes through a pipe, name the page too: view - PAGE')
  if command == 'extract' and paths[1] == output_paths.PIPE:
    raise UserError('an archive holds several images: name a folder for them in place of -')
  if NO_VERIFY.value and not LOSSLESS.value:
    raise UserError('--no-verify is of encode --lossless: leave it out')
  if EFFORT.value and command != 'encode':
    raise UserError('--effort is of encode: leave it out')
  limits_given = [x.value for x in (BITS_PER_DIM, PSNR, GROUPS) if x.value is not None]
  if LOSSLESS.value and limits_given:
    raise UserError('--lossless stores everything: leave out --bits-per-dim, --psnr and --groups')
  if PSNR.value is not None and len(limits_given) > 1:
    raise UserError('--psnr decides by itself: leave out --bits-per-dim and --groups')


def run(command, paths):
  """The `files.Line`s of a command that needs a model, as it goes from file to file."""
  from conv_draw.codec import files
  from conv_draw.workdir import published
  # The shell leaves the ~ of --workdir=~/run to the program.
  workdir = WORKDIR.value and os.path.expanduser(WORKDIR.value)
  if MODEL.value:
    workdir = published.named(MODEL.value)
  if command == 'encode':
    return files.encode(
        *paths, workdir, LOSSLESS.value, GROUPS.value, BITS_PER_DIM.value, PSNR.value, TILE.value,
        not NO_VERIFY.value, EFFORT.value, OVERWRITE.value)
  if command == 'decode':
    return files.decode(*paths, workdir, PARTIAL.value, TEMPERATURE.value, OVERWRITE.value)
  if command == 'view':
    target = paths[1] if len(paths) > 1 else None
    return files.view(paths[0], target, workdir, OVERWRITE.value)
  if command == 'archive':
    return files.archive(*paths, workdir, OVERWRITE.value)
  return files.extract(*paths, workdir, OVERWRITE.value)


def start():
  command_line.start(PROGRAM, main, parse)


if __name__ == '__main__':
  start()

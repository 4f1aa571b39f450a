"""What the command lines share: a mistake ends in one line on stderr and exit status 2."""

import contextlib
import sys

from absl import app, flags, logging

from conv_draw.errors import Preempted, UserError
from conv_draw.machine import quiet

# What a mistake in --config and --config.KEY raises, besides flags.Error.
MISTAKES = (AttributeError, ImportError, KeyError, OSError, SyntaxError, TypeError, ValueError)


def fail(program, message):
  """Says `message` in one line and ends the program."""
  print(f'{program}:', ' '.join(str(message).split()), file=sys.stderr)
  sys.exit(2)


def parse_flags(program):
  """An absl `flags_parser`: a mistake in the flags ends in one line and exit status 2."""
  def parse(argv):
    try:
      return flags.FLAGS(argv)
    except flags.Error as e:
      return fail(program, e)
    except MISTAKES as e:
      return fail(program, f'{e}'.strip('\'"'))

  return parse


def check_given(argv, *holders):
  """Raises `UserError` unless all these flags were given, and nothing but flags."""
  for holder in holders:
    if holder.value is None:
      raise UserError(f'--{holder.name} is missing: {flags.FLAGS[holder.name].help}')
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}: what there is to say is said by flags')


@contextlib.contextmanager
def errors_in_one_line(program, paths):
  """Around what a program does; `paths` are what to check where files cannot be read or written.

  --verbosity=1 shows where the latter happened. Warnings of the libraries, such as Orbax's of every
  file it touches, are left out unless asked for.
  """
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)
  quiet.say_errors_once()
  try:
    yield
  except UserError as e:
    fail(program, e)
  except Preempted as e:
    print(f'{program}: {e}', file=sys.stderr)
    sys.exit(e.STATUS)
  except OSError as e:  # a full disk, say
    if logging.get_verbosity() >= logging.DEBUG:
      raise
    fail(program, f'{e}: check {paths}, permissions and the space left')


def parse_experiment(program, argv, config):
  """Parses launch.py's flags; returns the other arguments, as absl's `flags_parser`.

  Args:
    config: the holder of --config, whose default is the one stored in --workdir, unless training.
  """
  from conv_draw.workdir import config as config_lib  # the other programs do without it
  try:
    # --config must be known before --config.KEY can be read: look for its default first.
    first = flags.FlagValues()
    flags.DEFINE_string('config', None, '', flag_values=first)
    flags.DEFINE_string('workdir', None, '', flag_values=first)
    flags.DEFINE_string('mode', 'train', '', flag_values=first)
    flags.DEFINE_bool('help', False, '', flag_values=first)
    rest = first(argv, known_only=True)
    if first.help:
      return app.parse_flags_with_usage(argv)
    if not (first.config or first.workdir) and (
        first.mode == 'table' or first.mode == 'figures' and rest[1:]):
      return flags.FLAGS(argv)  # several runs, each with its own config
    if first.config is None:
      if first.mode == 'train':
        raise UserError('name an experiment: --config=experiments/digits.py')
      if first.workdir is None:
        raise UserError('name a trained run: --workdir=runs/NAME')
      config_lib.load(first.workdir)
      argv = [argv[0], f'--config={config_lib.__file__}:{first.workdir}', *argv[1:]]
    positional = flags.FLAGS(argv)
    config_lib.check(config.value)
    return positional
  except UserError as e:
    return fail(program, e)
  except (flags.Error, *MISTAKES) as e:
    return fail(program, f'{e}'.strip('\'"') + ' (python launch.py --help)')

"""The command lines' shared behaviour: an error is one line on stderr and exit status 2."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, flags, logging

from conv_draw.errors import Preempted, UserError, reason, remedy, said
from conv_draw.machine import compilation_cache, ending, preemption, quiet, streams

# What mistakes in --config and --config.KEY raise, besides flags.Error.
MISTAKES = (AttributeError, ImportError, KeyError, OSError, SyntaxError, TypeError, ValueError)
CLOSED = 141  # the status when nobody reads stdout any more, as after SIGPIPE
HELP = ('help', 'helpshort', 'helpfull', 'helpxml')
NO_MEMORY = 'RESOURCE_EXHAUSTED'  # XLA's status
CACHE = flags.DEFINE_string(
    'compilation_cache', None, 'The folder of compiled programs, which later commands load; "off": '
    "none. Default: $CONV_DRAW_CACHE, else conv_draw in the user's cache directory.")


class Path(flags.ArgumentParser):
  """Parser of a flag for a path; expands ~, which the shell does not after --workdir=."""

  syntactic_help = 'a path'

  def parse(self, argument: str) -> str:
    return os.path.expanduser(argument)


def start(program: str, main: Callable[[list[str]], Any],
          parse: Callable[[list[str]], list[str]] | None = None) -> None:
  """Runs a program; called below `if __name__ == '__main__'`.

  From here on, SIGTERM and Ctrl-C are handled, --help exits with status 0, a closed pipe ends the
  program silently, standard streams may be closed, and stdout accepts any character whatever the
  encoding of the terminal.

  Args:
    main: called with the arguments that are not flags.
    parse: an absl `flags_parser`; default: `parse_flags(program)`.
  """
  streams.complete()
  preemption.leave_at_once(program)
  _help_is_about(sys.modules[main.__module__])
  flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[CACHE.name])

  def run(argv):
    compilation_cache.enable(CACHE.value)
    return main(argv)

  for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(errors='backslashreplace')
  try:
    try:
      app.run(run, flags_parser=parse or parse_flags(program))
    finally:
      sys.stdout.flush()
  except BrokenPipeError:
    streams.discard_output()
    sys.exit(CLOSED)


def _help_is_about(module):
  """Makes --help show the docstring and flags of `module`, which another module has started."""
  if module.__name__ != '__main__':
    sys.modules['__main__'].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
      flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def fail(program: str, message: Any, error: BaseException | None = None) -> None:
  """Exits with status 2 after `message` in one line and, with --verbosity=1, the traceback.

  Raises:
    BrokenPipeError: nobody reads stdout or stderr any more; `start` handles it.
  """
  if isinstance(error, BrokenPipeError):
    raise error
  ending.wait_if_begun()
  verbose = any(argument.lstrip('-') in ('verbosity=1', 'v=1') for argument in sys.argv)
  if error is not None and verbose:
    traceback.print_exception(error)
  if ending.others_wait and not getattr(error, 'everywhere', False):
    ending.end(program, message, 2)  # a normal exit would wait for processes that wait for this one
  line = ' '.join((f'{program}:', *map(str.strip, str(message).splitlines())))
  for stream, text in ((sys.stdout, ''), (sys.stderr, line + '\n')):  # earlier output comes first
    try:
      stream.write(text)
      stream.flush()
    except BrokenPipeError:
      raise
    except OSError:  # a full disk
      streams.discard_output(stream)
  sys.exit(2)


def parse_flags(program: str) -> Callable[[list[str]], list[str]]:
  """An absl `flags_parser` that reports a mistake in one line with exit status 2."""
  def parse(argv):
    try:
      with _help_is_no_error():
        return flags.FLAGS(argv)
    except (flags.Error, *MISTAKES) as e:
      return fail(program, said(e), e)

  return parse


def split(argv: list[str]) -> tuple[list[str], list[str]]:
  """(the arguments before `--`, which may be flags; `--` and the arguments after it)."""
  end = argv.index('--') if '--' in argv else len(argv)
  return argv[:end], argv[end:]


def check_given(argv: list[str], *holders: flags.FlagHolder) -> None:
  """Raises `UserError` if one of these flags is missing, or an argument is not a flag."""
  for holder in holders:
    if holder.value is None:
      raise UserError(f'--{holder.name} is missing: {flags.FLAGS[holder.name].help}')
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}: this program takes flags only')


@contextlib.contextmanager
def errors_in_one_line(program: str, paths: str) -> Iterator[None]:
  """Context of a program's work, which reports errors that users can correct in one line.

  Other errors keep their traceback, and with --verbosity=1 errors of the system too. Without
  --verbosity, warnings of libraries are not shown, such as Orbax's about files.

  Args:
    paths: the remedy for files that cannot be read or written is to check these.
  """
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)
  quiet.say_errors_once()
  try:
    yield
    sys.stdout.flush()
  except UserError as e:
    fail(program, e, e)
  except Preempted as e:
    print(f'{program}: {e}', file=sys.stderr)
    sys.exit(preemption.status())
  except BrokenPipeError:
    sys.stdout.flush()  # raises it again for `start` if it was stdout's
    raise
  except OSError as e:
    if logging.get_verbosity() >= logging.DEBUG:
      raise
    fail(program, f'{e}: {remedy(e, f"check {paths}")}', e)
  except Exception as e:
    if message := _of_the_machine(e):
      fail(program, message, e)
    ending.wait_if_begun()
    raise


def _of_the_machine(error):
  """The message for an error that the machine or the environment causes; '' for other errors."""
  if isinstance(error, MemoryError) or NO_MEMORY in str(error):
    return (f'there is not enough memory ({reason(error)[:200]}): set a smaller batch_size '
            '(--config.train.batch_size, --config.evaluate.batch_size), or --tile of the codec')
  if isinstance(error, UnicodeEncodeError) and 'surrogates' in error.reason:
    return f'{error.object[:200]!r} is not UTF-8, which a library needs it to be: rename it'
  where = traceback.extract_tb(error.__traceback__)[-1].filename
  if where.endswith(os.path.join('jax', '_src', 'config.py')):  # reads variables JAX_...
    return f'{reason(error)[:200]}: unset that variable of the environment, or correct its value'
  if os.path.basename(where) == 'xla_bridge.py':  # selects JAX's devices
    wanted = os.environ.get('JAX_PLATFORMS', '')
    return (f'JAX finds no device for JAX_PLATFORMS={wanted}'
            + (f' ({reason(error)[:200]})' if str(error) else '')
            + ': unset it, or install the JAX that has it')
  return ''


def parse_experiment(program: str, argv: list[str], config: flags.FlagHolder) -> list[str]:
  """The arguments of launch.py that are not flags, after parsing the flags.

  Args:
    config: --config; unless training, its default is the configuration stored in --workdir.
  """
  from conv_draw.workdir import config as config_lib  # other programs do not need it
  first = _define_first()
  try:
    # --config.KEY can be parsed after --config is known: find it, or its default, first.
    rest = first(argv, known_only=True)
    if any(first[name].value for name in HELP):
      with _help_is_no_error():
        return app.parse_flags_with_usage(argv)
    if first.config:  # experiments import others of their clone
      path = os.path.abspath(os.path.expanduser(first.config.partition(':')[0]))
      sys.path.append(os.path.dirname(os.path.dirname(path)))
    given, names = split(rest[1:])
    named = [a for a in given if not a.startswith('-')] + names[1:]
    of_runs = first.mode in ('figures', 'report')
    one_run = of_runs and len(named) == 1 and not (first.config or first.workdir)
    if one_run:
      first.workdir = named[0]
      argv = [argv[0], f'--workdir={named[0]}', *argv[1:]]
    if not (first.config or first.workdir) and (
        first.mode == 'table' or of_runs and rest[1:]):
      return flags.FLAGS(argv)  # several runs, each with its own config
    if first.config is None:
      if first.mode == 'train':
        raise UserError('name an experiment: --config=experiments/digits.py')
      if first.workdir is None:
        raise UserError('name a trained run: --workdir=runs/NAME')
      config_lib.load(first.workdir)
      argv = [argv[0], f'--config={config_lib.__file__}:{first.workdir}', *argv[1:]]
    given, names = split(argv)
    argv = [a.replace('=~', '=' + os.path.expanduser('~'), 1) if a.startswith('--config=~/') else a
            for a in given]
    positional = flags.FLAGS([*argv, *names])
    config_lib.check(config.value)
    config.value.train.start_from = os.path.expanduser(config.value.train.start_from)
    return positional[:1] if one_run else positional
  except UserError as e:
    return fail(program, e, e)
  except Exception as e:  # pylint: disable=broad-except; experiments can raise any
    if first.is_parsed() and first.config and (mistake := _mistake_in(first.config)):
      return fail(program, mistake, mistake)
    if not isinstance(e, (flags.Error, *MISTAKES)):
      raise
    return fail(program, f'{said(e)} (python launch.py --help)', e)


def _define_first():
  """The flags that `parse_experiment` must know before the others."""
  first = flags.FlagValues()
  flags.DEFINE(Path(), 'config', None, '', flag_values=first)
  flags.DEFINE(Path(), 'workdir', None, '', flag_values=first)
  flags.DEFINE_string('mode', 'train', '', flag_values=first)
  for name in HELP:
    flags.DEFINE_bool(
        name, False, '', flag_values=first, short_name='?' if name == 'help' else None)
  return first


def _mistake_in(config):
  """The `UserError` with the line of a mistake in --config's experiment; None if there is none."""
  from conv_draw.workdir import experiment
  path, _, argument = config.partition(':')
  try:
    made = experiment.call(path, 'get_config', *([argument] if argument else []))
    if not hasattr(made, 'to_dict'):
      raise UserError(f'{path} needs a get_config() that returns a config, as in '
                      'experiments/digits.py')
  except UserError as mistake:
    return mistake
  return None


@contextlib.contextmanager
def _help_is_no_error():
  """Context in which absl prints --help and exits; turns its exit status 1 into 0.

  Raises:
    UserError: stdout cannot be written.
  """
  try:
    try:
      yield
    except SystemExit as e:
      sys.stdout.flush()
      sys.exit(0 if e.code == 1 else e.code)
  except BrokenPipeError:
    raise
  except OSError as e:
    raise UserError(f'{e}: {remedy(e)}') from e

"""What the command lines share: a mistake ends in one line on stderr and exit status 2."""

import contextlib
import os
import sys
import traceback

from absl import app, flags, logging

from conv_draw.errors import Preempted, UserError, reason, remedy, said
from conv_draw.machine import ending, preemption, quiet, streams

# What a mistake in --config and --config.KEY raises, besides flags.Error.
MISTAKES = (AttributeError, ImportError, KeyError, OSError, SyntaxError, TypeError, ValueError)
CLOSED = 141  # the status where no one reads stdout any more: as if SIGPIPE had come
HELP = ('help', 'helpshort', 'helpfull', 'helpxml')
NO_MEMORY = 'RESOURCE_EXHAUSTED'  # XLA's word


class Path(flags.ArgumentParser):
  """The parser of a flag that names a file or directory: ~ is the user's home.

  The shell leaves it to the program behind the = of --workdir=~/x.
  """

  syntactic_help = 'a path'

  def parse(self, argument):
    return os.path.expanduser(argument)


def start(program, main, parse=None):
  """Runs a program: what stands below `if __name__ == '__main__'`.

  SIGTERM and Ctrl-C are heard from here on; --help is no error; `| head -1` is nothing to speak of;
  standard streams may be closed; stdout takes file names that are not UTF-8, and every letter
  whatever the terminal's encoding.

  Args:
    main: called with the arguments that are no flags.
    parse: an absl `flags_parser`; default `parse_flags(program)`.
  """
  streams.complete()
  preemption.leave_at_once(program)
  _help_is_about(sys.modules[main.__module__])
  for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(errors='backslashreplace')
  try:
    try:
      app.run(main, flags_parser=parse or parse_flags(program))
    finally:
      sys.stdout.flush()
  except BrokenPipeError:
    streams.discard_output()
    sys.exit(CLOSED)


def _help_is_about(module):
  """Makes --help show the text and the flags of a module that another one has started."""
  if module.__name__ != '__main__':
    sys.modules['__main__'].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
      flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def fail(program, message, error=None):
  """Ends the program, with `message` in one line; with --verbosity=1, all there is of `error`.

  Raises:
    BrokenPipeError: no one reads stdout or stderr any more: `start` ends the program then.
  """
  if isinstance(error, BrokenPipeError):
    raise error
  ending.wait_if_begun()
  if error is not None and _all_of_it():
    traceback.print_exception(error)
  if ending.others_wait and not getattr(error, 'everywhere', False):
    ending.end(program, message, 2)  # in order, it would wait for processes that wait for it
  line = ' '.join((f'{program}:', *map(str.strip, str(message).splitlines())))
  for stream, text in ((sys.stdout, ''), (sys.stderr, line + '\n')):  # what came before comes first
    try:
      stream.write(text)
      stream.flush()
    except BrokenPipeError:
      raise
    except OSError:  # no room for it
      streams.discard_output(stream)
  sys.exit(2)


def parse_flags(program):
  """An absl `flags_parser`: a mistake in the flags ends in one line and exit status 2."""
  def parse(argv):
    try:
      with _help_is_no_error():
        return flags.FLAGS(argv)
    except (flags.Error, *MISTAKES) as e:
      return fail(program, said(e), e)

  return parse


def split(argv):
  """(arguments that may be flags; `--` and what stands behind it, which are none), of `argv`."""
  end = argv.index('--') if '--' in argv else len(argv)
  return argv[:end], argv[end:]


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
    sys.stdout.flush()
  except UserError as e:
    fail(program, e, e)
  except Preempted as e:
    print(f'{program}: {e}', file=sys.stderr)
    sys.exit(preemption.status())
  except BrokenPipeError:
    sys.stdout.flush()  # raises it again if it was stdout's, for `start`
    raise
  except OSError as e:  # a full disk, say
    if logging.get_verbosity() >= logging.DEBUG:
      raise
    fail(program, f'{e}: {remedy(e, f"check {paths}")}', e)
  except Exception as e:
    if message := _of_the_machine(e):
      fail(program, message, e)
    ending.wait_if_begun()
    raise


def _of_the_machine(error):
  """What to say of an error that is the machine's and no fault of the program; '' of others."""
  if isinstance(error, MemoryError) or NO_MEMORY in str(error):
    return (f'there is not enough memory ({reason(error)[:200]}): set a smaller batch_size '
            '(--config.train.batch_size, --config.evaluate.batch_size), or --tile of the codec')
  if isinstance(error, UnicodeEncodeError) and 'surrogates' in error.reason:
    return f'{error.object[:200]!r} is not UTF-8, which a library needs it to be: rename it'
  where = traceback.extract_tb(error.__traceback__)[-1].filename
  if where.endswith(os.path.join('jax', '_src', 'config.py')):  # it reads JAX_... as it starts
    return f'{reason(error)[:200]}: unset that variable of the environment, or mend its value'
  if os.path.basename(where) == 'xla_bridge.py':  # JAX's choice of a device
    wanted = os.environ.get('JAX_PLATFORMS', '')
    return (f'JAX finds no device for JAX_PLATFORMS={wanted}'
            + (f' ({reason(error)[:200]})' if str(error) else '')
            + ': unset it, or install the JAX that has it')
  return ''


def parse_experiment(program, argv, config):
  """Parses launch.py's flags; returns the other arguments, as absl's `flags_parser`.

  Args:
    config: the holder of --config, whose default is the one stored in --workdir, unless training.
  """
  from conv_draw.workdir import config as config_lib  # the other programs do without it
  from conv_draw.workdir import experiment
  first = flags.FlagValues()
  try:
    # --config must be known before --config.KEY can be read: look for its default first.
    flags.DEFINE(Path(), 'config', None, '', flag_values=first)
    flags.DEFINE(Path(), 'workdir', None, '', flag_values=first)
    flags.DEFINE_string('mode', 'train', '', flag_values=first)
    for name in HELP:
      short = '?' if name == 'help' else None
      flags.DEFINE_bool(name, False, '', flag_values=first, short_name=short)
    rest = first(argv, known_only=True)
    if any(first[name].value for name in HELP):
      with _help_is_no_error():
        return app.parse_flags_with_usage(argv)
    if first.config:  # experiments begin from those beside them, which only a clone has
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
  except Exception as e:  # pylint: disable=broad-except; what an experiment raises can be anything
    if first.is_parsed() and first.config:
      try:  # if it is the experiment's fault, see where: the libraries do not say
        path, _, argument = first.config.partition(':')
        made = experiment.call(path, 'get_config', *([argument] if argument else []))
        if not hasattr(made, 'to_dict'):
          raise UserError(f'{path} needs a get_config() that returns a config, as in '
                          'experiments/digits.py')
      except UserError as mistake:
        return fail(program, mistake, mistake)
    if not isinstance(e, (flags.Error, *MISTAKES)):
      raise
    return fail(program, f'{said(e)} (python launch.py --help)', e)


@contextlib.contextmanager
def _help_is_no_error():
  """absl ends with status 1 after it has said what was asked for.

  Raises:
    UserError: there is no room for it.
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


def _all_of_it():
  return any(argument.lstrip('-') in ('verbosity=1', 'v=1') for argument in sys.argv)

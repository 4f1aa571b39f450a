"""Trains and evaluates convolutional DRAW.

  python launch.py --config=experiments/digits.py              train, or continue, in runs/digits
  python launch.py --mode=evaluate --workdir=runs/digits
  python launch.py --mode=table runs/*                         or --mode=figures: figure 5
"""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from conv_draw import config as config_lib
from conv_draw import devices, preemption, sweeps
from conv_draw.errors import Preempted, UserError

CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'The experiment, experiments/NAME.py; for every mode but train it defaults to '
    "the workdir's own. Change settings with --config.KEY=VALUE.")
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run lives; default runs/NAME.')
MODE = flags.DEFINE_enum(
    'mode', 'train', ('train', 'evaluate', 'sample', 'reconstruct', 'figures', 'table'), 'What.')
SWEEP = flags.DEFINE_bool('sweep', False, "List the points of the experiment's sweep.")
SWEEP_INDEX = flags.DEFINE_integer(
    'sweep_index', None, 'Train this point of the sweep, below --workdir; -1: none. Default: '
    "the scheduler's SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX, if there is a sweep.")
MULTIHOST = flags.DEFINE_bool(
    'multihost', False, 'Train together with the same program on other hosts; which ones, JAX '
    'finds out in a TPU pod, Slurm or Kubernetes. Elsewhere, also:')
COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0.')
PROCESS_COUNT = flags.DEFINE_integer('process_count', None, 'How many processes.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which one this is, from 0.')


def parse(argv):
  """Parses the command line; a mistake in it ends in one line and exit status 2."""
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
    config_lib.check(CONFIG.value)
    return positional
  except UserError as e:
    fail(e)
  except (flags.Error, AttributeError, ImportError, KeyError, OSError, SyntaxError, TypeError,
          ValueError) as e:
    fail(f'{e}'.strip('\'"') + ' (python launch.py --help)')


def main(argv):
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)  # Orbax tells every file it touches
  preemption.leave_at_once()
  try:
    run(argv[1:])
  except UserError as e:
    fail(e)
  except Preempted as e:
    print(f'launch.py: {e}', file=sys.stderr)
    sys.exit(e.STATUS)
  except OSError as e:  # a workdir that cannot be written, a full disk
    if logging.get_verbosity() >= logging.DEBUG:
      raise  # --verbosity=1 shows where
    fail(f'{e}: check the workdir, its permissions and the space left')


def run(positional):
  config, workdir = CONFIG.value, WORKDIR.value
  if config is None or MODE.value == 'table':
    workdirs = positional or [workdir or fail('name trained runs: --mode=table runs/*')]
    from conv_draw import modes  # pylint: disable=g-import-not-at-top; starts JAX's backend
    return modes.run_several(MODE.value, workdirs)
  if positional:
    fail(f'unexpected argument {positional[0]!r}: settings are given as --config.KEY=VALUE')
  experiment = flags.FLAGS['config'].config_filename
  workdir = workdir or os.path.join('runs', os.path.basename(experiment).removesuffix('.py'))
  if SWEEP.value:
    return print(sweeps.listing(experiment, workdir))
  index, said_by = sweeps.chosen(
      SWEEP_INDEX.value, experiment, MODE.value == 'train' and not MULTIHOST.value)
  if index is not None:
    workdir = sweeps.choose(experiment, workdir, index, config)
    print(f'launch.py: point {index} of the sweep, said by {said_by}: {workdir}', file=sys.stderr)
  if MULTIHOST.value:
    devices.join(COORDINATOR.value, PROCESS_COUNT.value, PROCESS_ID.value)
  devices.one_device_per_core(config['train' if MODE.value == 'train' else 'evaluate'].batch_size)
  from conv_draw import modes  # pylint: disable=g-import-not-at-top; starts JAX's backend
  modes.run(MODE.value, config, workdir)


def fail(message):
  print('launch.py:', ' '.join(str(message).split()), file=sys.stderr)
  sys.exit(2)


if __name__ == '__main__':
  devices.restart_with_huge_pages()
  app.run(main, flags_parser=parse)

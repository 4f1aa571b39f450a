"""Trains and evaluates convolutional DRAW.

  python launch.py --config=experiments/digits.py          train, or resume, in runs/digits
  python launch.py --mode=evaluate --workdir=runs/digits   bound on the test likelihood, baselines
  python launch.py --mode=figures runs/digits              figures 1 to 4; of several runs, figure 5
  python launch.py --mode=table runs/*                     table 1
  python launch.py --mode=report runs/digits               an HTML page about one or several runs
"""

import os
import sys
import warnings

from absl import flags
from ml_collections import config_flags

from conv_draw import command_line
from conv_draw.errors import UserError
from conv_draw.machine import preemption, startup
from conv_draw.workdir import sweeps

# ml_collections calls it to load --config; the program must run under `python -W error`.
warnings.filterwarnings('ignore', r'the load_module\(\) method', DeprecationWarning)

PROGRAM = 'conv-draw' if os.path.basename(sys.argv[0]) == 'conv-draw' else 'launch.py'
CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'The experiment, experiments/NAME.py; except for --mode=train, the default is '
    'the config stored in the workdir. Change settings with --config.KEY=VALUE.')
WORKDIR = flags.DEFINE(
    command_line.Path(), 'workdir', None, "The run's directory; default runs/NAME.")
MODE = flags.DEFINE_enum(
    'mode', 'train', ('train', 'evaluate', 'sample', 'reconstruct', 'figures', 'table', 'report'),
    'What to do; see above.')
SWEEP = flags.DEFINE_bool('sweep', False, "List the points of the experiment's sweep.")
SWEEP_INDEX = flags.DEFINE_integer(
    'sweep_index', None, 'Train this point of the sweep, in a directory below --workdir; -1: '
    'no point. Default: SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX if the experiment has a sweep.')
MULTIHOST = flags.DEFINE_bool(
    'multihost', False, 'Train on several hosts, one process each. JAX detects them in a TPU pod, '
    'Slurm or Kubernetes; elsewhere give the next three flags, too.')
COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0.')
PROCESS_COUNT = flags.DEFINE_integer('process_count', None, 'The number of processes.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'The number of this process, from 0.')
JOIN_TIMEOUT = flags.DEFINE_integer(
    'join_timeout', 300, 'Seconds after which processes that wait for others end.',
    lower_bound=1)


def parse(argv: list[str]) -> list[str]:
  """An absl `flags_parser`: the arguments that are not flags."""
  return command_line.parse_experiment(PROGRAM, argv, CONFIG)


def main(argv: list[str]) -> None:
  """Runs the mode of the flags; `argv` has the program and the arguments that are not flags."""
  with command_line.errors_in_one_line(PROGRAM, 'the workdir'):
    _check_together()
    if CONFIG.value is None or MODE.value == 'table':
      _run_several(argv[1:] or [WORKDIR.value])
    else:
      _run(CONFIG.value, argv[1:])


def _check_together():
  """Raises `UserError` for a flag that the mode ignores."""
  together = (COORDINATOR, PROCESS_COUNT, PROCESS_ID)
  if not MULTIHOST.value:
    for holder in together:
      if holder.value is not None:
        raise UserError(f'--{holder.name} needs --multihost: without it this process trains alone')
  elif MODE.value not in ('train', 'evaluate'):
    raise UserError(f'--mode={MODE.value} runs on one host: leave out --multihost')


def _run_several(workdirs):
  if workdirs == [None]:
    raise UserError('name trained runs: --mode=table runs/*')
  if SWEEP.value or SWEEP_INDEX.value is not None:
    raise UserError('--sweep and --sweep_index go with one --config or --workdir')
  if MODE.value in ('figures', 'report'):
    startup.restart_with_huge_pages()
  from conv_draw.report import modes  # pylint: disable=g-import-not-at-top; starts JAX's backend
  modes.run_several(MODE.value, workdirs)


def _run(config, positional):
  if positional:
    raise UserError(
        f'unexpected argument {positional[0]!r}: settings are given as --config.KEY=VALUE')
  experiment = flags.FLAGS['config'].config_filename
  workdir = WORKDIR.value or os.path.join('runs', os.path.basename(experiment).removesuffix('.py'))
  if SWEEP.value:
    return print(sweeps.listing(experiment, workdir))
  startup.restart_with_huge_pages()
  index, source = sweeps.chosen(
      SWEEP_INDEX.value, experiment, MODE.value == 'train' and not MULTIHOST.value)
  if index is not None:
    workdir = sweeps.choose(experiment, workdir, index, config)
    print(f'{PROGRAM}: point {index} of the sweep ({source}): {workdir}', file=sys.stderr)
  if MULTIHOST.value:
    from conv_draw.machine import hosts  # pylint: disable=g-import-not-at-top; imports JAX
    hosts.join(
        PROGRAM, COORDINATOR.value, PROCESS_COUNT.value, PROCESS_ID.value, JOIN_TIMEOUT.value)
    if MODE.value != 'train':
      preemption.leave_at_once(PROGRAM)  # replaces JAX's handler, which only training reads
  startup.one_device_per_core(config['train' if MODE.value == 'train' else 'evaluate'].batch_size)
  from conv_draw.report import modes  # pylint: disable=g-import-not-at-top; starts JAX's backend
  modes.run(MODE.value, config, workdir)


def start() -> None:
  """The entry point of conv-draw."""
  command_line.start(PROGRAM, main, parse)

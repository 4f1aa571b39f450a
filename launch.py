"""Trains and evaluates convolutional DRAW.

  python launch.py --config=experiments/digits.py              train, or continue, in runs/digits
  python launch.py --mode=evaluate --workdir=runs/digits
  python launch.py --mode=table runs/*                         or --mode=figures: figure 5
"""

import os
import sys

from absl import app, flags
from ml_collections import config_flags

from conv_draw import command_line
from conv_draw.errors import UserError
from conv_draw.machine import startup
from conv_draw.workdir import sweeps

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
  return command_line.parse_experiment('launch.py', argv, CONFIG)


def main(argv):
  with command_line.errors_in_one_line('launch.py', 'the workdir'):
    if CONFIG.value is None or MODE.value == 'table':
      run_several(argv[1:] or [WORKDIR.value])
    else:
      run(CONFIG.value, argv[1:])


def run_several(workdirs):
  if workdirs == [None]:
    raise UserError('name trained runs: --mode=table runs/*')
  if MODE.value == 'figures':
    startup.restart_with_huge_pages()
  from conv_draw.machine import preemption  # pylint: disable=g-import-not-at-top; imports JAX
  from conv_draw.report import modes  # pylint: disable=g-import-not-at-top; starts its backend
  preemption.leave_at_once()
  modes.run_several(MODE.value, workdirs)


def run(config, positional):
  if positional:
    raise UserError(
        f'unexpected argument {positional[0]!r}: settings are given as --config.KEY=VALUE')
  experiment = flags.FLAGS['config'].config_filename
  workdir = WORKDIR.value or os.path.join('runs', os.path.basename(experiment).removesuffix('.py'))
  if SWEEP.value:
    return print(sweeps.listing(experiment, workdir))
  startup.restart_with_huge_pages()
  index, said_by = sweeps.chosen(
      SWEEP_INDEX.value, experiment, MODE.value == 'train' and not MULTIHOST.value)
  if index is not None:
    workdir = sweeps.choose(experiment, workdir, index, config)
    print(f'launch.py: point {index} of the sweep, said by {said_by}: {workdir}', file=sys.stderr)
  from conv_draw.machine import hosts, preemption  # pylint: disable=g-import-not-at-top; import JAX
  preemption.leave_at_once()
  if MULTIHOST.value:
    hosts.join(COORDINATOR.value, PROCESS_COUNT.value, PROCESS_ID.value)
  startup.one_device_per_core(config['train' if MODE.value == 'train' else 'evaluate'].batch_size)
  from conv_draw.report import modes  # pylint: disable=g-import-not-at-top; starts JAX's backend
  modes.run(MODE.value, config, workdir)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)

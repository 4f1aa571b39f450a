"""Sweeps: `get_sweep()` of an experiment lists points; each is a run with a workdir of its own."""

import os
from typing import Any

from ml_collections import config_dict

from conv_draw.errors import UserError, reason
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import experiment

# Environment variables with the number of a task.
SCHEDULERS = ('SLURM_ARRAY_TASK_ID', 'JOB_COMPLETION_INDEX')
BETAS = (0.2, 0.4, 0.5, 0.6, 0.8, 1.0)  # figure 5


def over_beta() -> list[dict[str, Any]]:
  """The paper's sweep over beta, for `get_sweep()` of an experiment."""
  return [{'objective.beta': beta} for beta in BETAS]


def points(config_file: str) -> list[dict[str, Any]]:
  """The points {dotted key: value} of an experiment file's sweep.

  Raises:
    UserError: the experiment has no sweep, or a mistake in it.
  """
  found = experiment.call(config_file, 'get_sweep')
  if found is None:
    raise UserError(f'{config_file} defines no sweep: give it a get_sweep()')
  if not isinstance(found, list | tuple) or not all(isinstance(point, dict) for point in found):
    raise UserError(f'get_sweep() of {config_file} must return a list of dicts such as '
                    "{'objective.beta': 0.4}; it returns " + repr(found)[:100])
  return found


def chosen(index: int | None, config_file: str, training: bool) -> tuple[int | None, str]:
  """(index of the point to run or None, the source of that index).

  Args:
    index: of the command line; None = the scheduler's, -1 = no point.
    training: whether the scheduler's variables count.
  """
  if index is not None:
    return (None if index == -1 else index), '--sweep_index'
  for name in SCHEDULERS if training else ():
    if os.environ.get(name, '').isdigit() and experiment.call(config_file, 'get_sweep') is not None:
      return int(os.environ[name]), f'{name} (--sweep_index=-1: none)'
  return None, ''


def directory(point: dict[str, Any]) -> str:
  """The name of a point's workdir, such as beta_0.4."""
  return '_'.join(f'{key.rsplit(".", 1)[-1]}_{value}' for key, value in point.items())


def listing(config_file: str, workdir: str) -> str:
  """A line for each point: its index, workdir and settings."""
  return '\n'.join(
      f'{i}  {os.path.join(workdir, directory(point))}  '
      + ' '.join(f'--config.{key}={value}' for key, value in point.items())
      for i, point in enumerate(points(config_file)))


def choose(config_file: str, workdir: str, index: int, config: config_dict.ConfigDict) -> str:
  """Sets `config` to point `index` of the sweep; returns the point's workdir.

  Raises:
    UserError: there is no such point, or its settings are invalid.
  """
  all_points = points(config_file)
  if not 0 <= index < len(all_points):
    raise UserError(
        f'--sweep_index is {index}; the sweep of {config_file} has points 0 to '
        f'{len(all_points) - 1}')
  try:
    config.update_from_flattened_dict(all_points[index])
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    raise UserError(
        f'point {index} of the sweep of {config_file} is {all_points[index]}: {reason(e)}') from e
  config_lib.check(config)
  return os.path.join(workdir, directory(all_points[index]))

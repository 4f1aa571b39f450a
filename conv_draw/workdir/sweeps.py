"""Sweeps: an experiment's `get_sweep()` lists settings, each a run in a workdir of its own."""

import os

from conv_draw.errors import UserError, reason
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import experiment

SCHEDULERS = ('SLURM_ARRAY_TASK_ID', 'JOB_COMPLETION_INDEX')  # variables with a task's number
BETAS = (0.2, 0.4, 0.5, 0.6, 0.8, 1.0)  # figure 5


def over_beta():
  """The paper's sweep: a `get_sweep()` for an experiment."""
  return [{'objective.beta': beta} for beta in BETAS]


def points(config_file):
  """The settings, dicts of dotted keys, that the sweep of an experiment file goes through.

  Raises:
    UserError: the experiment defines no sweep, or one with a mistake in it.
  """
  found = experiment.call(config_file, 'get_sweep')
  if found is None:
    raise UserError(f'{config_file} defines no sweep: give it a get_sweep()')
  if not isinstance(found, list | tuple) or not all(isinstance(point, dict) for point in found):
    raise UserError(f'get_sweep() of {config_file} must return a list of dicts such as '
                    "{'objective.beta': 0.4}; it returns " + repr(found)[:100])
  return found


def has_sweep(config_file):
  return experiment.call(config_file, 'get_sweep') is not None


def chosen(index, config_file, training):
  """(which point to run, None for none; who says so).

  Args:
    index: of the command line: None = the scheduler's, -1 = none.
    training: whether the scheduler is asked at all.
  """
  if index is not None:
    return (None if index == -1 else index), '--sweep_index'
  for name in SCHEDULERS if training else ():
    if os.environ.get(name, '').isdigit() and has_sweep(config_file):
      return int(os.environ[name]), f'{name} (--sweep_index=-1: none)'
  return None, ''


def directory(point):
  """A name for the point's workdir, such as beta_0.4."""
  return '_'.join(f'{key.rsplit(".", 1)[-1]}_{value}' for key, value in point.items())


def listing(config_file, workdir):
  """One line for each point: its index, workdir and settings."""
  return '\n'.join(
      f'{i}  {os.path.join(workdir, directory(point))}  '
      + ' '.join(f'--config.{key}={value}' for key, value in point.items())
      for i, point in enumerate(points(config_file)))


def choose(config_file, workdir, index, config):
  """Sets `config` to point `index` of the sweep; returns that point's workdir.

  Raises:
    UserError: there is no such point, or it is not one of settings that there are.
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

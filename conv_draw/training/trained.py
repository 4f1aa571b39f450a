"""A trained run, ready to be used."""

import json
import os

import jax

from conv_draw.data import sets
from conv_draw.errors import UserError
from conv_draw.model.from_config import from_config
from conv_draw.training import checkpoints, steps
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics, published


def load(config, workdir):
  """(model, parameters to use, step, `sets.Images` of the test split) of a run.

  Args:
    config: of the run; its `model` settings are those that `workdir` was trained with.
  Raises:
    UserError: no such run, or data that is missing.
  """
  images = sets.load(config.data, 'test')
  return *_restore(config, workdir, images.shape, images.grey_levels), images


def of_state(config, state):
  """The same of the `TrainState` that training has returned."""
  images = sets.load(config.data, 'test')
  model = from_config(config, images.shape, images.grey_levels)
  params = state.params if state.ema_params is None else state.ema_params
  return model, params, int(state.step), images


def load_model(config, workdir):
  """(model, parameters to use, step, (H, W, C) of its images) of a run, without its data.

  Raises:
    UserError: no such run.
  """
  path = os.path.join(workdir, 'images.json')
  try:
    with open(path) as f:
      stored = json.load(f)
    shape, grey_levels = tuple(stored['shape']), stored['levels']
  except FileNotFoundError:
    raise UserError(
        f'{path} does not exist: name the workdir of a trained run (if it is one, train it again '
        'with the same command, which adds the file)') from None
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise UserError(f'{path} is not readable ({e!r}): restore it') from None
  return *_restore(config, workdir, shape, grey_levels), shape


def logs(workdir):
  """Paths of a run's metrics.jsonl, after those of the runs it started from, while they exist."""
  log = os.path.join(workdir, metrics.FILE)
  if published.is_one(workdir):
    return [*published.earlier_logs(workdir), log]
  start = config_lib.load(workdir).train.start_from
  known = start and os.path.exists(os.path.join(start, metrics.FILE))
  return [*(logs(start) if known else []), log]


def store_images(workdir, images):
  """Writes `images.json`, what a model has to know of its data, whole or not at all."""
  path = os.path.join(workdir, 'images.json')
  with open(path + '.tmp', 'w') as f:
    f.write(json.dumps({'name': images.name, 'shape': images.shape, 'levels': images.grey_levels}))
  os.replace(path + '.tmp', path)


def _restore(config, workdir, shape, grey_levels):
  model = from_config(config, shape, grey_levels)
  optimizer = steps.create_optimizer(config)
  like = jax.eval_shape(lambda: steps.create_state(config, model, optimizer, shape))
  if published.is_one(workdir):
    params, step = published.read(workdir, like.params)
  else:
    params, step = checkpoints.restore_params(workdir, like)
  return model, params, step

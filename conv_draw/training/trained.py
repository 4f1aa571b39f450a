"""A trained run, ready to be used."""

import json
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from conv_draw.build import from_config
from conv_draw.data import identity, sets
from conv_draw.errors import UserError, reason
from conv_draw.machine import hosts
from conv_draw.machine.files import write_file
from conv_draw.model import arguments
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.vae import Vae
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics, published


class ImageKind(NamedTuple):
  """What a model has to know of its images, and a workdir does: so much of `sets.Images`."""

  name: str  # of the training split
  shape: tuple[int, int, int]  # (H, W, C)
  grey_levels: int


class Run(NamedTuple):
  """A model with what it was trained to be."""

  config: config_dict.ConfigDict
  workdir: str
  model: ConvDraw | Vae
  params: Any  # those to be used: `TrainState.params_to_use`
  step: int  # updates done
  images: sets.Images | ImageKind  # of the test split; or without data


def load(config, workdir, images=None):
  """The `Run` in a workdir, as `read` has it; of several processes only the first one reads it."""
  if jax.process_count() == 1:
    return read(config, workdir, images)
  run = hosts.on_primary(lambda: read(config, workdir, images))
  model = from_config(config, images.shape, images.grey_levels)
  mine = (run.params, run.step) if run else (
      jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _params_like(model, images)), 0)
  params, step = hosts.arrays_from_primary(mine)
  return Run(config, workdir, model, params, int(step), images)


def read(config, workdir, images=None):
  """The `Run` in a workdir, for this process alone.

  Args:
    config: of the run; its `model` settings are those that `workdir` was trained with.
    images: `sets.Images` of its test split. None: the `Run` is to have an `ImageKind`, and needs
      no data.
  Raises:
    UserError: no such run, or of images of another shape.
  """
  images = _stored_images(workdir) if images is None else images
  model = from_config(config, images.shape, images.grey_levels)
  if published.is_one(workdir):
    params, step = published.read(workdir, _params_like(model, images))
  else:
    # What training needs, decoding with the packaged models does without.
    from conv_draw.training import checkpoints, steps
    like = jax.eval_shape(lambda: steps.create_state(
        config, model, steps.create_optimizer(config, model), images.shape))
    params, step = checkpoints.restore_params(workdir, like)
  return Run(config, workdir, model, params, step, images)


def named(name):
  """The `Run` that comes with the package under that name, or of the workdir of that path."""
  name = arguments.path(name, 'name')
  workdir = published.path(name) if name in published.names() else name
  return read(config_lib.load(workdir), workdir)


def _params_like(model, images):
  """The structure of a model's parameters."""
  return jax.eval_shape(lambda key: model.init(
      key, key, jnp.zeros((1, *images.shape), jnp.uint8)), jax.random.key(0))


def of_state(config, workdir, model, state, images):
  """The `Run` that has come as far as a host `TrainState`; the others are its fields."""
  return Run(config, workdir, model, state.params_to_use, int(state.step), images)


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
  write_file(_images_file(workdir), json.dumps(identity.of(images)))


def stored_identity(workdir):
  """The `identity.of` the images that a run was last trained on; None if it has none to be read."""
  try:
    return _read_images(workdir)
  except UserError:
    return None  # training writes it again


def _stored_images(workdir):
  """The `ImageKind` that `store_images` wrote."""
  stored = _read_images(workdir)
  return ImageKind(stored['name'], tuple(stored['shape']), stored['levels'])


def _read_images(workdir):
  """The content of `images.json`."""
  path = _images_file(workdir)
  try:
    with open(path) as f:
      stored = json.load(f)
    ImageKind(stored['name'], tuple(stored['shape']), stored['levels'])
    return stored
  except FileNotFoundError:
    raise UserError(
        f'{path} does not exist: name the workdir of a trained run (if it is one, train it again '
        'with the same command, which adds the file)') from None
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise UserError(f'{path} is not readable ({reason(e)}): restore it') from None


def _images_file(workdir):
  return os.path.join(workdir, 'images.json')

"""A trained run: its model, parameters, configuration and data."""

import json
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.build import from_config
from conv_draw.data import identity, sets
from conv_draw.errors import UserError, reason
from conv_draw.machine import hosts
from conv_draw.machine.files import write_file
from conv_draw.model import arguments
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.vae import Vae
from conv_draw.progressive.model import Progressive
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics, published


class ImageKind(NamedTuple):
  """The properties of a data set that its model depends on, as stored in a workdir."""

  name: str  # of the training split
  shape: tuple[int, int, int]  # (H, W, C)
  grey_levels: int


class Run(NamedTuple):
  """A trained model."""

  config: config_dict.ConfigDict
  workdir: str
  model: ConvDraw | Vae
  params: Any  # `TrainState.params_to_use`
  step: int  # updates done
  images: sets.Images | ImageKind  # the test split, or without data its properties


def load(config: config_dict.ConfigDict, workdir: str, images: sets.Images | None = None) -> Run:
  """As `read`; with several processes, the primary one reads and sends the others the result."""
  if jax.process_count() == 1:
    return read(config, workdir, images)
  run = hosts.on_primary(lambda: read(config, workdir, images))
  model = from_config(config, images.shape, images.grey_levels)
  mine = (run.params, run.step) if run else (
      jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _params_like(model, images)), 0)
  params, step = hosts.arrays_from_primary(mine)
  return Run(config, workdir, model, params, int(step), images)


def read(config: config_dict.ConfigDict, workdir: str, images: sets.Images | None = None) -> Run:
  """The `Run` in a workdir, read by this process.

  Args:
    config: of the run, with the model settings that it was trained with.
    images: its test split. None: `Run.images` is an `ImageKind`, and no data are read.
  Raises:
    UserError: there is no such run, or its images have another shape.
  """
  images = _stored_images(workdir) if images is None else images
  model = from_config(config, images.shape, images.grey_levels)
  if published.is_one(workdir):
    params, step = published.read(workdir, _params_like(model, images))
  else:
    # Imported here: decoding with packaged models needs neither Orbax nor optax.
    from conv_draw.training import checkpoints, steps
    like = jax.eval_shape(lambda: steps.create_state(
        config, model, steps.create_optimizer(config, model), images.shape))
    params, step = checkpoints.restore_params(workdir, like)
  return Run(config, workdir, model, params, step, images)


def named(name: str) -> Run:
  """The `Run` of a packaged model's name, or of a workdir's path."""
  name = arguments.path(name, 'name')
  workdir = published.path(name) if name in published.names() else name
  return read(config_lib.load(workdir), workdir)


def _params_like(model, images):
  """The structure, shapes and types of a model's parameters."""
  if isinstance(model, ConvDraw | Progressive):  # without tracing the iterations
    return jax.eval_shape(
        lambda: model.init(jax.random.key(0), images.shape[:2], method='prepare'))
  few = {'places': 1} if isinstance(model, LocalDraw) else {}
  return jax.eval_shape(lambda: model.init(
      jax.random.key(0), jax.random.key(0), jnp.zeros((1, *images.shape), jnp.uint8), **few))


def of_state(config, workdir, model, state, images) -> Run:
  """The `Run` at a host `TrainState`; the other arguments are its fields."""
  return Run(config, workdir, model, state.params_to_use, int(state.step), images)


def logs(workdir: str) -> list[str]:
  """Paths of metrics.jsonl of the runs that a run started from (while they exist) and its own."""
  log = os.path.join(workdir, metrics.FILE)
  if published.is_one(workdir):
    return [*published.earlier_logs(workdir), log]
  start = config_lib.load(workdir).train.start_from
  known = start and os.path.exists(os.path.join(start, metrics.FILE))
  return [*(logs(start) if known else []), log]


def store_images(workdir: str, images: sets.Images) -> None:
  """Writes `images.json`, the identity of the data, atomically."""
  write_file(_images_file(workdir), json.dumps(identity.of(images)))


def stored_identity(workdir: str) -> dict[str, Any] | None:
  """`identity.of` the images that a run was last trained on; None if it cannot be read."""
  try:
    return _read_images(workdir)
  except UserError:
    return None  # training rewrites the file


def _stored_images(workdir):
  """The `ImageKind` in `images.json`."""
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

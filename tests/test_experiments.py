import functools
import glob
import importlib
import os

import jax
import numpy as np
import pytest

from conv_draw.data import sets
from conv_draw.machine.devices import AXIS
from conv_draw.model.from_config import from_config
from conv_draw.training import steps
from experiments import default

NAMES = sorted(
    os.path.splitext(os.path.basename(path))[0]
    for path in glob.glob(os.path.join(os.path.dirname(default.__file__), '*.py')))
SHAPES = {'digits': (8, 8, 1), 'omniglot': (28, 28, 1), 'imagenet64': (64, 64, 3)}


def keys(tree, prefix=''):
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from keys(value, f'{prefix}{name}.')
    else:
      yield prefix + name, type(value)


def load(name):
  return importlib.import_module(f'experiments.{name}').get_config()


def way(config):
  """What decides which code a step runs, beside sizes."""
  m, o, t = config.model, config.objective, config.train
  return (m.kind, m.likelihood, m.local_numbers, m.local_canvas, m.posterior, m.linear_paths,
          bool(m.steps), bool(o.progressive), o.bound, t.optimizer, t.part, bool(t.ema_decay))


def shrink(config):
  """The model of a config of images of 4x4 pixels, made tiny."""
  few = tuple(3 for _ in config.model.upper_strides)
  config.model.update(
      steps=2, features=3, latents=2, mixtures=2, upper_features=few, upper_latents=few,
      restoration=min(config.model.restoration, 4))
  return from_config(config, (4, 4, 1), 256)


FIRST = {way(load(name)): name for name in reversed(NAMES)}  # of those that run the same code


@pytest.mark.parametrize('name', NAMES)
def test_experiment_has_the_keys_of_default_and_takes_a_step(name):
  config = load(name)
  assert dict(keys(config.to_dict())) == dict(keys(default.get_config().to_dict()))
  assert config.data.name in sets.NAMES
  # Built at its own size, without computing anything...
  shape = SHAPES.get(config.data.name, (32, 32, 3))
  full = from_config(config, shape, 256)
  image = jax.ShapeDtypeStruct((1, *shape), np.uint8)
  key = jax.random.key(0)
  jax.eval_shape(full.init, key, key, image)
  # ... and trained for a step at a tiny one, if no other experiment was that runs the same code.
  alone = FIRST[way(config)] == name
  model = shrink(config)
  optimizer = steps.create_optimizer(config)
  images = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 4, 1)).astype(np.uint8)
  create = functools.partial(steps.create_state, config, model, optimizer, images.shape[2:])
  step = jax.pmap(
      lambda state, images: steps.train_step(
          state, images, model=model, optimizer=optimizer, config=config),
      axis_name=AXIS, devices=jax.devices()[:1])
  if not alone:
    of_one_device = lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    state, metrics = jax.eval_shape(
        step, jax.tree.map(of_one_device, jax.eval_shape(create)), images)
    assert metrics['loss'].shape == (1,) and state.step.shape == (1,)
    return
  state, metrics = step(jax.tree.map(lambda x: np.asarray(x)[None], create()), images)
  assert np.isfinite(metrics['loss'][0]) and state.step[0] == 1


def loss_and_gradients(name, counts):
  """[(loss, {parameter: gradient}, nats of the terms)] of a step on so many devices of each count.

  All with the same images and keys, with parameters of which none is zero.
  """
  config = load(name)
  model = shrink(config)
  optimizer = steps.create_optimizer(config)
  rng = np.random.default_rng(0)
  # Of different means and contrasts, so that no part of the batch is like all of it.
  images = rng.integers(0, 256, (8, 4, 4, 1)) * rng.random((8, 1, 1, 1))
  images = (images + rng.random((8, 1, 1, 1)) * (255 - images.max((1, 2, 3), keepdims=True)))
  images = images.astype(np.uint8)
  state = jax.jit(functools.partial(steps.create_state, config, model, optimizer, (4, 4, 1)))()
  state = state.replace(opt_state=None, ema_params=None, params=jax.tree.map(
      lambda x: x + 0.05 * rng.normal(size=x.shape).astype(np.float32), state.params))
  found = []
  for count in counts:
    function = jax.pmap(
        lambda state, images: steps.loss_and_gradients(
            state, images, model=model, config=config)[:2],
        axis_name=AXIS, devices=jax.devices()[:count], in_axes=(None, 0))
    loss, gradients = function(state, images.reshape(count, -1, *images.shape[1:]))
    gradients = {
        jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(x)[0]
        for path, x in jax.tree_util.tree_leaves_with_path(gradients['params'])}
    found.append((float(loss[0]), gradients))
  return found


def largest_difference(found, reference):
  """Of one gradient's arrays from another's, as a part of the length of the reference's array."""
  lengths = {name: np.linalg.norm(x) for name, x in reference.items()}
  return max(
      np.linalg.norm(found[name] - reference[name]) / length if length else abs(found[name]).max()
      for name, length in lengths.items())


@pytest.mark.parametrize('name', NAMES)
def test_what_is_minimised_does_not_depend_on_the_number_of_devices(name):
  (loss, gradients), (other, others) = loss_and_gradients(name, (1, 2))
  print(f'{name:20} loss {loss:12.4f} differs by {abs(other / loss - 1):.1e}, '  # noqa: T201
        f'gradients by {largest_difference(others, gradients):.1e}')
  assert other == pytest.approx(loss, rel=1e-5)
  assert largest_difference(others, gradients) < 1e-3


@pytest.mark.parametrize('name, features', [
    ('omniglot', 160), ('cifar10', 320), ('imagenet32', 160), ('imagenet64', 160)])
def test_the_papers_hyper_parameters(name, features):
  config = load(name)
  m = config.model
  assert (m.steps, m.kernel, m.stride, m.latents, m.features) == (32, 5, 2, 12, features)
  assert (config.train.learning_rate, config.objective.beta) == (5e-4, 1.0)

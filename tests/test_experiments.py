import functools
import glob
import importlib
import os
import re

import jax
import numpy as np
import optax
import pytest

from conv_draw.build import from_config
from conv_draw.data import sets
from conv_draw.machine.devices import AXIS
from conv_draw.progressive import initialisation, objective, transform
from conv_draw.training import steps
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import settings
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


def shrink(config):
  """The model of a config at a tiny size, and the shape of its images."""
  few = tuple(3 for _ in config.model.upper_strides)
  config.model.update(
      steps=min(config.model.steps, 2), features=3, latents=2, mixtures=2, upper_features=few,
      upper_latents=few)
  shape = (4, 4, 1)
  if config.model.kind == 'local':
    config.local.mixtures = 2
  if config.model.kind == 'progressive':  # whose interlaced passes need some iterations
    config.progressive.post_filter = min(config.progressive.post_filter, 4)
    config.model.steps = transform.INTERLACED + 2
    shape = (2 * config.model.stride, 3 * config.model.stride, 3)
  return from_config(config, shape, 256), shape


@pytest.mark.parametrize('name', NAMES)
def test_experiment_has_the_keys_of_its_kind_and_is_built(name):
  config = load(name)
  assert dict(keys(config.to_dict())) == {
      s.key: type(s.default) for s in settings.of(config.model.kind)}
  config_lib.check(config)
  assert config.data.name in sets.NAMES
  # Built at its own size, and a step of training at a tiny size, without computing anything.
  shape = SHAPES.get(config.data.name, (32, 32, 3))
  full = from_config(config, shape, 256)
  key = jax.random.key(0)
  jax.eval_shape(full.init, key, key, jax.ShapeDtypeStruct((1, *shape), np.uint8))
  model, shape = shrink(config)
  optimizer = steps.create_optimizer(config, model)
  create = functools.partial(steps.create_state, config, model, optimizer, shape)
  step = jax.pmap(
      lambda state, images: steps.train_step(
          state, images, model=model, optimizer=optimizer, config=config),
      axis_name=AXIS, devices=jax.devices()[:1])
  of_one_device = lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
  state, metrics = jax.eval_shape(
      step, jax.tree.map(of_one_device, jax.eval_shape(create)), np.zeros((1, 2, *shape), np.uint8))
  assert metrics['loss'].shape == (1,) and state.step.shape == (1,)


# Parameters without a gradient, and why.
PROGRESSIVE = {
    # The means of q_t are quantised with RDOQ, through which no gradient passes.
    r'linear_read',
    # Not trained: quantisation steps, coefficients and their distortion weights, error scales.
    r'posterior_log_sigma|linear_width|linear_component|linear_worth|restoration_size'}
WITHOUT_GRADIENT = {
    'photos_lossy': PROGRESSIVE,
    'cifar10_lossy': PROGRESSIVE,
}


def photos(shape):
  """uint8 [8, *shape]: smooth images of different means and contrasts."""
  rng = np.random.default_rng(0)
  walks = rng.normal(0, 1, (8, *shape)).cumsum(1).cumsum(2) * rng.uniform(1, 40, (8, 1, 1, 1))
  return np.clip(walks + rng.uniform(0, 255, (8, 1, 1, 1)), 0, 255).astype(np.uint8)


def first_state(config, model, images):
  """The initial `TrainState`, without an optimiser."""
  create = functools.partial(
      steps.create_state, config, model, optax.identity(), images.shape[1:])
  params = jax.tree.map(np.asarray, jax.jit(create)().params)
  if config.model.kind == 'progressive':
    betas = objective.geometric_betas(
        config.progressive.first_beta, config.objective.beta, model.iterations)
    parts = initialisation.transforms(
        initialisation.cells(images, model.stride), betas, config.model.latents)
    parts['restoration_size'] = initialisation.filter_scale(betas)
    params = {'params': {**params['params'], **parts}}
  zero = np.zeros((), np.int32)
  return steps.TrainState(zero, zero, params, None, None)


def gradients_of(name):
  """The gradients of an experiment.

  Returns:
    ({name: whether any of three updates changes the parameter},
    (loss, {name: gradient}) of a step on one device, the same on two).
  """
  config = load(name)
  model, shape = shrink(config)
  images = photos(shape)

  def on(count):
    mapped = jax.pmap(
        lambda state, images: steps.loss_and_gradients(
            state, images, model=model, config=config)[:2],
        axis_name=AXIS, devices=jax.devices()[:count], in_axes=(None, 0))
    split = images.reshape(count, -1, *shape)
    return lambda state: jax.tree.map(lambda x: np.asarray(x)[0], mapped(state, split))

  state, on_one, learns = first_state(config, model, images), on(1), {}
  for _ in range(3):
    gradients = on_one(state)[1]
    learns = {name: learns.get(name, False) or bool(g.any())
              for name, g in by_name(gradients).items()}
    state = state.replace(params=jax.tree.map(
        lambda x, g: x - 0.05 * g / max(abs(g).max(), 1e-30), state.params, gradients))
  # Noise, so that no trained parameter is zero.
  rng = np.random.default_rng(0)
  state = state.replace(params=jax.tree.map(
      lambda x, g: x + (0.05 * rng.normal(size=x.shape) * g.any()).astype(np.float32),
      state.params, gradients))
  found = [(loss, by_name(gradients)) for loss, gradients in (on_one(state), on(2)(state))]
  return learns, *found


def by_name(params):
  """{name: array} of a tree of parameters."""
  return {jax.tree_util.keystr(path, simple=True, separator='/'): x
          for path, x in jax.tree_util.tree_leaves_with_path(params['params'])}


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_learns_and_the_same_on_one_device_and_on_two(name):
  learns, (loss, gradients), (other, others) = gradients_of(name)
  exceptions = '|'.join(WITHOUT_GRADIENT.get(name, ['']))
  for parameter, found in learns.items():
    assert found != bool(re.fullmatch(exceptions, parameter)), parameter
  off = {parameter: np.linalg.norm(others[parameter] - g) / np.linalg.norm(g)
         for parameter, g in gradients.items() if learns[parameter]}
  worst = max(off, key=off.get)
  print(f'| {name} | {loss:.6g} | {abs(other / loss - 1):.1e} | {off[worst]:.1e} | {worst} |')  # noqa: T201
  assert other == pytest.approx(loss, rel=1e-5)
  assert off[worst] < 1e-3, worst


@pytest.mark.parametrize('name, features', [
    ('omniglot', 160), ('cifar10', 320), ('imagenet32', 160), ('imagenet64', 160)])
def test_the_papers_hyper_parameters(name, features):
  config = load(name)
  m = config.model
  assert (m.steps, m.kernel, m.stride, m.latents, m.features) == (32, 5, 2, 12, features)
  assert (config.train.learning_rate, config.objective.beta) == (5e-4, 1.0)

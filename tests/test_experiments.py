import glob
import importlib
import os

import jax
import numpy as np
import pytest

from conv_draw.data import sets
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


@pytest.mark.parametrize('name', NAMES)
def test_experiment_has_the_keys_of_default_and_takes_a_step(name):
  module = importlib.import_module(f'experiments.{name}')
  config = module.get_config()
  assert dict(keys(config.to_dict())) == dict(keys(default.get_config().to_dict()))
  assert config.data.name in sets.NAMES
  # Built at its own size, without computing anything...
  shape = SHAPES.get(config.data.name, (32, 32, 3))
  full = from_config(config, shape, 256)
  image = jax.ShapeDtypeStruct((1, *shape), np.uint8)
  key = jax.random.key(0)
  jax.eval_shape(full.init, key, key, image)
  # ... and trained for a step at a tiny one.
  few = tuple(3 for _ in config.model.upper_strides)
  config.model.update(
      steps=2, features=3, latents=2, mixtures=2, upper_features=few, upper_latents=few)
  model = from_config(config, (4, 4, 1), 256)
  optimizer = steps.create_optimizer(config)
  images = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 4, 1)).astype(np.uint8)
  state = steps.create_state(config, model, optimizer, images.shape[2:])
  step = jax.pmap(
      lambda state, images: steps.train_step(
          state, images, model=model, optimizer=optimizer, config=config),
      axis_name=steps.AXIS, devices=jax.devices()[:1])
  state, metrics = step(jax.tree.map(lambda x: np.asarray(x)[None], state), images)
  assert np.isfinite(metrics['loss'][0]) and state.step[0] == 1


@pytest.mark.parametrize('name, features', [
    ('omniglot', 160), ('cifar10', 320), ('imagenet32', 160), ('imagenet64', 160)])
def test_the_papers_hyper_parameters(name, features):
  config = importlib.import_module(f'experiments.{name}').get_config()
  m = config.model
  assert (m.steps, m.kernel, m.stride, m.latents, m.features) == (32, 5, 2, 12, features)
  assert (config.train.learning_rate, config.objective.beta) == (5e-4, 1.0)

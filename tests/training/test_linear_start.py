"""Training with linear paths begins as a transform coder for its own images."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from conv_draw.build import from_config
from conv_draw.data.sets import Images
from conv_draw.model import linear_paths, objective
from conv_draw.training import start, steps
from experiments import photos_lossy

SIDE = 16


def images(crops):
  rng = np.random.default_rng(0)
  data = np.clip(128 + rng.normal(0, 9, (50, SIDE, SIDE, 3)).cumsum(1).cumsum(2), 0, 255)
  data = data.astype(np.uint8)
  fetch = (lambda some, places=None: data[some % 50]) if crops else (lambda some: data[some % 50])
  return Images('some', (SIDE, SIDE, 3), 256, fetch, 50, crops=crops)


class Trained(NamedTuple):
  params: dict


@pytest.mark.parametrize('crops', [False, True])
def test_begins_with_the_components_of_the_training_images(crops, monkeypatch):
  monkeypatch.setattr(start, 'IMAGES', 200)
  config = photos_lossy.get_config()
  config.model.update(steps=5, features=2, latents=4, stride=4)
  config.progressive.image_kernel = 4
  model = from_config(config, (SIDE, SIDE, 3), 256)
  shapes = jax.eval_shape(lambda: steps.create_state(
      config, model, steps.create_optimizer(config), (SIDE, SIDE, 3)))
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  params = start._begun_linearly(config, images(crops), state)
  assert jax.tree.map(np.shape, params.params) == jax.tree.map(np.shape, state.params)
  assert params.ema_params is params.params
  read = params.params['params']['linear_read'] * linear_paths.MATRIX
  np.testing.assert_allclose(np.linalg.norm(read[0, :, 0]), 1, rtol=1e-5)
  # The first component of such images is their colour, alike in all of a cell.
  first = read[0, :, 0].reshape(16, 3)
  assert abs(first - first.mean(0)).max() < 0.05
  betas = objective.betas(config.progressive.first_beta, config.objective.beta, 5)
  cells = linear_paths.cells(images(False).fetch(np.arange(50)), 4)
  expected = linear_paths.begin(cells, betas, 4)['linear_width']
  np.testing.assert_allclose(params.params['params']['linear_width'], expected)


def test_cells_are_the_whole_ones():
  some = np.arange(2 * 5 * 7 * 2, dtype=np.uint8).reshape(2, 5, 7, 2)
  cells = linear_paths.cells(some, 2)
  assert cells.shape == (2 * 2 * 3, 8)
  np.testing.assert_array_equal(cells[1], some[0, :2, 2:4].ravel())


def test_a_model_without_restoration_gets_a_new_one(monkeypatch):
  config = photos_lossy.get_config()
  config.model.update(steps=5, features=2, latents=4, stride=4)
  config.progressive.update(image_kernel=4, post_filter=3)
  shapes = jax.eval_shape(lambda: steps.create_state(
      config, from_config(config, (SIDE, SIDE, 3), 256), steps.create_optimizer(config),
      (SIDE, SIDE, 3)))
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  theirs = {name: np.ones(x.shape) for name, x in state.params['params'].items()
            if not name.startswith('restoration')}
  monkeypatch.setattr(start.config_lib, 'load', lambda workdir: None)
  monkeypatch.setattr(
      start.trained, 'read', lambda config, workdir: Trained({'params': theirs}))
  found = start._started_from('earlier', state).params['params']
  assert found.keys() == state.params['params'].keys() > theirs.keys()
  for name, value in found.items():
    assert (value == (name in theirs)).all(), name

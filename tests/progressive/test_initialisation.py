"""Training begins as a transform coder for its own images."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from conv_draw import build
from conv_draw.data.sets import Images
from conv_draw.progressive import initialisation, objective, transform
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


def small(**change):
  config = photos_lossy.get_config()
  config.model.update(steps=5, features=2, latents=4, stride=4)
  config.progressive.update(image_kernel=4, post_filter=3, **change)
  return config


def parameters(config):
  """{name: zeros} of all parameters."""
  model = build.from_config(config, (SIDE, SIDE, 3), 256)
  shapes = jax.eval_shape(lambda: steps.create_state(
      config, model, steps.create_optimizer(config, model), (SIDE, SIDE, 3)))
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


@pytest.mark.parametrize('crops', [False, True])
def test_begins_with_the_components_of_the_training_images(crops, monkeypatch):
  monkeypatch.setattr(initialisation, 'IMAGES', 200)
  config = small()
  mine, found = parameters(config).params['params'], build.initial_values(config, images(crops))
  for name, value in found.items():
    assert (value.shape, value.dtype) == (mine[name].shape, mine[name].dtype), name
  read = found['linear_read'] * transform.MATRIX
  np.testing.assert_allclose(np.linalg.norm(read[0, :, 0]), 1, rtol=1e-5)
  # The first component of such images is their colour, alike in all of a cell.
  first = read[0, :, 0].reshape(16, 3)
  assert abs(first - first.mean(0)).max() < 0.05
  betas = objective.geometric_betas(config.progressive.first_beta, config.objective.beta, 5)
  cells = initialisation.cells(images(False).fetch(np.arange(50)), 4)
  expected = initialisation.transforms(cells, betas, 4)['linear_width']
  np.testing.assert_allclose(found['linear_width'], expected)
  np.testing.assert_allclose(found['restoration_size'] * 255, betas**-0.5, rtol=1e-6)
  config.train.start_from = 'earlier'
  assert build.initial_values(config, images(crops)).keys() == {'restoration_size'}


def test_cells_are_the_whole_ones():
  some = np.arange(2 * 5 * 7 * 2, dtype=np.uint8).reshape(2, 5, 7, 2)
  cells = initialisation.cells(some, 2)
  assert cells.shape == (2 * 2 * 3, 8)
  np.testing.assert_array_equal(cells[1], some[0, :2, 2:4].ravel())


def test_a_model_without_a_post_filter_gets_a_new_one(monkeypatch):
  config = small()
  config.train.start_from = 'earlier'
  state = parameters(config)
  theirs = {name: np.ones(x.shape) for name, x in state.params['params'].items()
            if not name.startswith('restoration')}
  monkeypatch.setattr(start.config_lib, 'load', lambda workdir: config)
  monkeypatch.setattr(
      start.trained, 'read', lambda config, workdir: Trained({'params': theirs}))
  found = start._started_from(config, state).params['params']
  assert found.keys() == state.params['params'].keys() > theirs.keys()
  for name, value in found.items():
    assert (value == (name in theirs)).all(), name


@pytest.mark.parametrize('latents', [1, 8, 200])
def test_the_allocation_refines_what_pays_first(latents):
  variances = np.geomspace(1e5, 1, 30)
  betas = objective.geometric_betas(1e-3, 1.0, 9)
  groups = initialisation.allocation(variances, betas, latents)
  assert len(groups) == len(betas) and all(len(group) <= latents for group in groups)
  assert groups[0][0][0] == 0  # the largest coefficient comes first
  finest = {}
  for group in groups:
    for coefficient, step in group:
      assert step < finest.get(coefficient, np.inf)
      finest[coefficient] = step
  if latents == 200:  # what pays is taken at once: coefficients of more variance at least as finely
    steps = [finest.get(c, np.inf) for c in range(30)]
    assert steps == sorted(steps) and steps[0] < 10 and steps[-1] == np.inf

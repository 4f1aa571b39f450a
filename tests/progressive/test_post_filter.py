"""The post-filter: outside the recurrence, and the identity before training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.progressive import objective, post_filter
from conv_draw.training import steps
from tests.progressive.small import KEY, T, inferred, photos, stirred


@functools.cache
def weights(iterations=3):
  """Initial `post_filter.Weights`."""
  keys = iter(jax.random.split(jax.random.key(0), 30))
  param = lambda name, init, shape: init(next(keys), shape)
  made = post_filter.create(param, 3, 8, iterations, 4)
  return made._replace(size=jnp.full(iterations, 0.1))


@functools.cache
def filtered():
  return jax.jit(post_filter.apply)


@functools.cache
def squared_errors(**change):
  """[T, B] of the truncation points of all photos, of the model with other settings."""
  model, params = stirred()
  return jax.jit(model.clone(**change).apply)(params, KEY, photos()).squared_error


def stirred_weights():
  """Weights whose filter differs between positions and iterations."""
  keys = iter(jax.random.split(jax.random.key(3), 30))
  return jax.tree.map(
      lambda w: w + 0.02 * jax.random.normal(next(keys), w.shape), weights())


def test_new_filters_and_images_of_no_iterations_change_nothing():
  r = np.random.default_rng(0).random((2, 9, 14, 3), np.float32)
  np.testing.assert_array_equal(filtered()(weights(), r, np.array([1, 3])), r)
  shown = filtered()(stirred_weights(), r, np.array([0, 2]))
  np.testing.assert_array_equal(shown[0], r[0])
  assert abs(shown[1] - r[1]).max() > 0.01


def test_flat_pictures_depend_on_the_position_in_a_cell_alone():
  shown = filtered()(stirred_weights(), np.full((1, 20, 20, 3), 0.3, np.float32), np.array([1]))[0]
  np.testing.assert_allclose(shown[8:12, 8:12], shown[8:12, 12:16], atol=1e-5)
  assert shown[8:12, 8:12].std(0).max() > 1e-4


def test_the_filter_scales_with_the_errors_of_an_iteration():
  r = np.random.default_rng(0).random((1, 16, 16, 3), np.float32) - 0.5
  w, t = stirred_weights(), np.array([2])
  change = filtered()(w, r, t) - r
  smaller = filtered()(w._replace(size=w.size / 8), r / 8, t) - r / 8
  np.testing.assert_allclose(8 * smaller, change, atol=1e-5)


def test_squared_errors_are_those_of_the_pictures():
  model, params = stirred()
  images = photos()[:3]
  errors, plain = squared_errors()[:, :3], squared_errors(filter_features=0)[:, :3]
  assert abs(errors / plain - 1).max() > 0.01
  reconstruct = jax.jit(functools.partial(model.apply, method='reconstruct'))
  for t in (1, 4, T):
    shown = reconstruct(params, KEY, images, t, 0.0)
    error = ((images / 255 - np.clip(shown, 0, 1)) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(errors[t - 1], error, rtol=1e-4)


def test_random_truncation_points_are_stratified_and_have_the_errors_of_all():
  model, params = stirred()
  some = jax.jit(functools.partial(model.apply, some=2))
  after, before = squared_errors(), squared_errors(filter_features=0)
  images, times = np.arange(len(photos())), np.zeros((2, T))
  for i in range(6):
    inference = some(params, jax.random.key(i), photos())
    at, errors, canvases = inference.filtered
    assert inference.squared_error is None and at.shape == errors.shape == (2, len(images))
    np.testing.assert_allclose(errors, after[at, images], rtol=1e-4)
    np.testing.assert_allclose(canvases, before, rtol=1e-5)
    times += [np.bincount(part, minlength=T) for part in at]
  # T = 7 truncation points: one draw of an image is from either half.
  share = len(images) * 6 * 2 / T
  assert (times[0, 4:] == 0).all() and (times[1, :3] == 0).all()
  np.testing.assert_allclose(times.sum(0), share, atol=4 * share**0.5)
  whole = inferred()
  assert whole.filtered is None and whole.squared_error.shape == (T, len(images))


@pytest.mark.parametrize('part', ['all', 'post_filter'])
def test_the_recurrence_gets_no_gradient_from_the_pictures(part):
  model, params = stirred()

  def cost(params):
    params = steps._kept_constant(model, part, params)
    inference = model.apply(params, KEY, photos()[:2], some=2)
    with_it = objective.multi_rate(inference, np.ones(T))
    without = objective.multi_rate(inference._replace(filtered=None), np.ones(T))
    return jnp.stack([with_it.mean(), without.mean()])

  gradients = jax.jit(jax.jacrev(cost))(params)['params']
  size = lambda g: float(abs(g).max())
  for name, (with_it, without) in gradients.items():
    if name.startswith('restoration'):
      assert size(without) == 0
    else:
      np.testing.assert_array_equal(with_it, without)
      assert part == 'all' or size(with_it) == 0, name
  # Quantisation steps are not trained: their gradient would lack the distortion.
  assert size(gradients['posterior_log_sigma'][1]) == 0
  assert size(gradients['restoration_kernel_3'][0]) > 0
  assert size(gradients['restoration_size'][0]) == 0
  assert part != 'all' or size(gradients['decoder_canvas'][0]) > 0

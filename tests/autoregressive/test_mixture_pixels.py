import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels


def mixture_canvas(pixels, channels, count, spread, log_scale, seed=0):
  """[count, R]: means around [0, 1], log scales around `log_scale`, both `spread` wide."""
  rng = np.random.default_rng(seed)
  k, c = pixels.mixtures, channels
  parts = [
      rng.normal(0, 1, (count, k)), rng.normal(0.5, spread, (count, k * c)),
      rng.normal(log_scale, spread, (count, k * c)),
      rng.normal(0, 1, (count, k * c * (c - 1) // 2))]
  return jnp.asarray(np.concatenate(parts, 1), jnp.float32)


def mixture_costs(pixels, x, canvas):
  """Reference in float64 for one pixel: -log P(x_c | x_<c) [C] from sums of probabilities."""
  k, c, grey_levels = pixels.mixtures, len(x), pixels.grey_levels
  x, rows = np.asarray(x, np.float64), np.asarray(canvas, np.float64).reshape(-1, k)
  s = 1 / (grey_levels - 1)
  scales = np.exp(np.clip(rows[1 + c : 1 + 2 * c], np.log(s / 20), 2))
  slopes = iter(np.tanh(rows[1 + 2 * c :]))
  joint, costs = scipy.special.softmax(rows[0]), []
  for channel in range(c):
    mean = rows[1 + channel] + sum(next(slopes) * (x[j] - 0.5) for j in range(channel))
    edges = [-np.inf, *(np.arange(grey_levels - 1) + 0.5) * s, np.inf]
    value = round(x[channel] * (grey_levels - 1))
    upper, lower = (
        (edges[v] - mean) / scales[channel] for v in (value + 1, value))
    # Of the two tails, the difference of the smaller ones keeps its digits.
    mass = np.where(
        lower > 0, scipy.special.expit(-lower) - scipy.special.expit(-upper),
        scipy.special.expit(upper) - scipy.special.expit(lower))
    before, joint = joint.sum(), joint * mass
    costs.append(-np.log(joint.sum() / before))
  return np.array(costs)


def all_masses(pixels, canvas, earlier):
  """[grey_levels, N] P(x_c | earlier) of all values of channel c, given x [N, c]."""
  values = np.arange(pixels.grey_levels, dtype=np.float32)[:, None, None]
  n = len(canvas)
  x = np.concatenate([
      np.broadcast_to(earlier, (pixels.grey_levels, *earlier.shape)),
      np.broadcast_to(values / (pixels.grey_levels - 1), (pixels.grey_levels, n, 1))], -1)
  cost = jax.jit(pixels.cost)(x, np.broadcast_to(canvas, (len(x), *canvas.shape)))
  return np.exp(-cost[..., -1])


@pytest.mark.parametrize('spread, log_scale', [(0.3, -3), (0.5, -7), (0.1, -20), (5, 2), (0.1, 50)])
def test_masses_of_all_values_sum_to_one(spread, log_scale):
  pixels = LogisticMixturePixels()
  canvas = mixture_canvas(pixels, 3, 50, spread, log_scale)
  x = np.random.default_rng(1).integers(0, 256, (50, 2)) / np.float32(255)
  for c in range(3):
    np.testing.assert_allclose(all_masses(pixels, canvas, x[:, :c]).sum(0), 1, atol=1e-5)


@pytest.mark.parametrize('channels, grey_levels, mixtures, spread, log_scale', [
    (1, 256, 5, 0.3, -3), (3, 256, 5, 0.3, -3), (3, 256, 10, 0.1, -4.5), (3, 17, 1, 0.2, -3),
    (3, 256, 5, 0.1, 30), (2, 2, 3, 0.3, 0), (4, 65536, 2, 0.3, -3)])
def test_mixture_cost_agrees_with_float64(channels, grey_levels, mixtures, spread, log_scale):
  pixels = LogisticMixturePixels(grey_levels, mixtures)
  canvas = mixture_canvas(pixels, channels, 100, spread, log_scale)
  values = np.random.default_rng(1).integers(0, grey_levels, (100, channels))
  x = values / np.float32(grey_levels - 1)
  x[:5], x[5:10] = 0, 1
  expected = [mixture_costs(pixels, *pair) for pair in zip(x, canvas, strict=True)]
  np.testing.assert_allclose(jax.jit(pixels.cost)(x, canvas), expected, rtol=1e-4, atol=1e-4)


def test_draws_have_the_masses_of_their_values():
  pixels, n = LogisticMixturePixels(4, 2), 100_000
  canvas = mixture_canvas(pixels, 2, 1, 0.4, -1.5, seed=2)
  uniforms = jax.random.uniform(jax.random.key(0), (n, 3), minval=1e-6, maxval=1 - 1e-6)
  drawn = np.asarray(jax.jit(pixels.draw)(jnp.broadcast_to(canvas, (n, canvas.size)), uniforms))
  assert drawn.dtype == np.float32 and pixels.uniforms(2) == 3
  x = np.indices((4, 4)).reshape(2, 16).T
  cost = jax.jit(pixels.cost)(x / np.float32(3), jnp.broadcast_to(canvas, (16, canvas.size)))
  masses = np.exp(-cost.sum(-1))
  np.testing.assert_allclose(masses.sum(), 1, atol=1e-5)
  found = (drawn[:, None] == x).all(-1).mean(0)
  assert (abs(found - masses) < 5 * np.sqrt(masses / n)).all() and (masses > 0.02).sum() > 6


def test_mixture_gradients_are_finite_at_extreme_canvases():
  pixels = LogisticMixturePixels(256, 3)
  rng = np.random.default_rng(0)
  size = rng.choice([0, 1e-6, 1, 30, 1e3, 1e6], (500, 30))
  canvas = jnp.asarray(rng.choice([-1, 1], size.shape) * size, jnp.float32)
  x = rng.choice([0, 1, 128, 254, 255], (500, 3)) / np.float32(255)
  for function in (lambda c: pixels.cost(x, c).sum(), lambda c: pixels.mean(c).sum()):
    value, gradient = jax.jit(jax.value_and_grad(function))(canvas)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_mixture_mean_is_the_expectation():
  pixels = LogisticMixturePixels()
  canvas = mixture_canvas(pixels, 1, 200, 0.7, -3)
  expected = all_masses(pixels, canvas, np.zeros((200, 0), np.float32)).T @ (np.arange(256) / 255)
  assert expected.min() < 0.05 and expected.max() > 0.95  # where means leave [0, 1], too
  np.testing.assert_allclose(jax.jit(pixels.mean)(canvas)[:, 0], expected, atol=2e-4)


def test_mixture_mean_follows_the_earlier_channels():
  pixels = LogisticMixturePixels(32, 2)
  canvas = mixture_canvas(pixels, 2, 50, 0.05, -4)  # none near 0 or 1, where it would not be exact
  x = np.indices((32, 32)).reshape(2, 1024, 1).transpose(1, 2, 0) / np.float32(31)
  costs = jax.jit(pixels.cost)(
      np.broadcast_to(x, (1024, 50, 2)), np.broadcast_to(canvas, (1024, *canvas.shape)))
  expected = (np.exp(-costs.sum(-1))[..., None] * x).sum(0)
  np.testing.assert_allclose(jax.jit(pixels.mean)(canvas), expected, atol=2e-3)


def test_mixture_components_start_apart():
  pixels, channels = LogisticMixturePixels(256, 7), 3
  canvas = pixels.initial_canvas(channels)
  assert canvas.shape == (pixels.canvas_channels(channels),)
  x = np.linspace(0, 1, 52, dtype=np.float32)[:, None].repeat(channels, 1)
  cost = lambda canvas: pixels.cost(x, jnp.broadcast_to(canvas, (52, *canvas.shape)))
  assert jax.jit(cost)(canvas).max() < 1.3 * math.log(256)  # no grey value is a surprise yet
  gradient = jax.jit(jax.grad(lambda canvas: cost(canvas).sum()))(canvas)
  _, *means = gradient.reshape(-1, 7)[: 1 + channels]
  assert all(len(np.unique(row)) == 7 for row in means)  # so that they part
  np.testing.assert_allclose(jax.jit(pixels.mean)(canvas), 0.5, atol=1e-4)


def test_mixture_canvas_of_a_wrong_size_is_named():
  with pytest.raises(ValueError, match='12 canvas channels'):
    LogisticMixturePixels(256, 3).mean(jnp.zeros((5, 12)))

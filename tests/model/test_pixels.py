import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from conv_draw.model import pixels as pixels_lib


@pytest.mark.parametrize('x, mean, sigma, grey_levels', [
    (0.5, 0.48, 0.1, 256), (0.0, 0.1, 0.003, 256), (1.0, 0.9, 0.02, 17), (0.25, 0.25, 0.001, 17)])
def test_gaussian_cost_is_the_kl_to_the_bin_and_bounds_its_mass(x, mean, sigma, grey_levels):
  s = 1 / (grey_levels - 1)
  cost = float(pixels_lib.gaussian_cost(x, mean, math.log(sigma), s))
  p = scipy.stats.norm(mean, sigma)
  expected, _ = scipy.integrate.quad(
      lambda u: (math.log(1 / s) - p.logpdf(u)) / s, x - s / 2, x + s / 2)
  assert cost == pytest.approx(expected, rel=1e-4)
  assert cost >= max(0, -math.log(p.cdf(x + s / 2) - p.cdf(x - s / 2)) - 1e-6)


def test_bernoulli_cost_is_the_log_probability():
  logits = jnp.array([-2.0, 0.0, 3.0])
  p = np.asarray(jax.nn.sigmoid(logits))
  pixels = pixels_lib.BernoulliPixels()
  np.testing.assert_allclose(pixels.cost(jnp.ones(3), logits), -np.log(p), rtol=1e-5)
  np.testing.assert_allclose(pixels.cost(jnp.zeros(3), logits), -np.log(1 - p), rtol=1e-5)
  np.testing.assert_allclose(pixels.mean(logits), p)


def test_canvas_holds_means_before_log_sigmas():
  pixels = pixels_lib.GaussianPixels(256)
  canvas = jnp.concatenate([jnp.full((1, 3), 0.2), jnp.full((1, 3), -1.0)], -1)
  np.testing.assert_allclose(pixels.mean(canvas), 0.2 * np.ones((1, 3)))
  expected = pixels_lib.gaussian_cost(0.3, 0.2, -1.0, 1 / 255)
  np.testing.assert_allclose(pixels.cost(jnp.full((1, 3), 0.3), canvas), expected, rtol=1e-6)

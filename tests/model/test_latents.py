import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from conv_draw.model import latents
from conv_draw.model.latents import DiagonalGaussian

Q = DiagonalGaussian(jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.2]))
P = DiagonalGaussian(jnp.array([0.0, 0.5]), jnp.array([0.1, -0.3]))


def test_kl_agrees_with_monte_carlo():
  z = Q.at(jax.random.normal(jax.random.key(0), (400_000, 2)))
  expected = scipy.stats.norm.logpdf(z[:9], Q.mean, np.exp(Q.log_sigma))
  np.testing.assert_allclose(Q.log_prob(z[:9]), expected, rtol=1e-5)
  ratio = Q.log_prob(z) - P.log_prob(z)
  error = ratio.std(0) / math.sqrt(len(z))
  kl = latents.kl_divergence(Q, P)
  assert (abs(ratio.mean(0) - kl) < 4 * error).all() and (kl > 0.01).all()
  np.testing.assert_allclose(latents.kl_divergence(Q, Q), 0, atol=1e-6)


@pytest.mark.parametrize('sigma', [0.01, 0.3, 5.0, 300.0])
def test_bin_masses_are_scipys_and_sum_to_one(sigma):
  prior = DiagonalGaussian(jnp.float32(0.3), jnp.log(jnp.float32(sigma)))
  width, offset = 0.7, 0.2
  z = offset + width * np.arange(-3000, 3001)
  log_mass = latents.log_bin_mass(prior, jnp.asarray(z, jnp.float32), width)
  assert float(jnp.exp(log_mass).sum()) == pytest.approx(1, abs=2e-3)
  near = abs(z - 0.3) < 4 * sigma + width
  expected = np.diff(scipy.stats.norm.cdf([z - width / 2, z + width / 2], 0.3, sigma), axis=0)[0]
  np.testing.assert_allclose(np.exp(log_mass[near]), expected[near], rtol=2e-2, atol=1e-6)


def test_bin_mass_has_a_gradient_everywhere():
  def total(mean, log_sigma, width):
    return latents.log_bin_mass(DiagonalGaussian(mean, log_sigma), 1.0, width).sum()

  mean, log_sigma = jnp.meshgrid(jnp.linspace(-50, 50, 41), jnp.linspace(-5, 6, 23))
  for width in (1e-2, 1.0, 100.0):
    for gradient in jax.grad(total, (0, 1))(mean, log_sigma, width):
      assert jnp.isfinite(gradient).all()


def test_dither_is_uniform_over_a_bin_and_costs_its_mass():
  q = latents.QuantisedPosterior(jnp.float32(0.8), jnp.float32(-1.0), True)
  z = q.at(jax.random.normal(jax.random.key(0), (100_000,)))
  assert float(z.std()) == pytest.approx(math.exp(-1), rel=1e-2)
  assert float(z.max() - z.min()) == pytest.approx(float(q.width), rel=1e-3)
  prior = DiagonalGaussian(jnp.float32(0.0), jnp.float32(0.0))
  kl_nats, log_ratio = latents.latent_nats(q, prior, z)
  np.testing.assert_array_equal(kl_nats, log_ratio)
  # KL of the uniform from the prior smeared out by the dither, by numerical integration.
  u = np.linspace(0.8 - float(q.width) / 2, 0.8 + float(q.width) / 2, 2001)
  smeared = (scipy.stats.norm.cdf(u + float(q.width) / 2) - scipy.stats.norm.cdf(
      u - float(q.width) / 2)) / float(q.width)
  expected = np.mean(-np.log(float(q.width)) - np.log(smeared))
  assert float(kl_nats.mean()) == pytest.approx(expected, rel=1e-2)


def test_without_dither_the_mean_is_rounded_to_the_grid():
  q = latents.QuantisedPosterior(jnp.linspace(-3, 3, 50), jnp.float32(-1.0), False)
  z = q.at(jnp.ones(50))
  cells = z / q.width
  np.testing.assert_allclose(cells, np.round(cells), atol=1e-5)
  assert (abs(z - q.mean) <= q.width / 2 + 1e-6).all()


def test_gradients_of_bin_masses_are_difference_quotients():
  def log_mass(mean, log_sigma):
    return latents.log_bin_mass(DiagonalGaussian(mean, log_sigma), jnp.zeros(()), 1.0)

  def exact(mean, log_sigma):
    low, high = ((abs(mean) + edge) / np.exp(log_sigma) for edge in (-0.5, 0.5))
    return scipy.stats.norm.logsf(low) + np.log1p(
        -np.exp(scipy.stats.norm.logsf(high) - scipy.stats.norm.logsf(low)))

  mean, log_sigma = (x.ravel() for x in np.meshgrid([-6, -0.25, 0, 1, 9], [-1.0, 0, 2]))
  gradients = jax.grad(lambda *x: log_mass(*x).sum(), (0, 1))(
      jnp.float32(mean), jnp.float32(log_sigma))
  for found, (m, s) in zip(gradients, ((1e-5, 0), (0, 1e-5)), strict=True):
    expected = (exact(mean + m, log_sigma + s) - exact(mean - m, log_sigma - s)) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)

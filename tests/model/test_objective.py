import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.model import objective


def test_eight_bits_a_pixel_are_eight_bits_per_dim():
  assert objective.bits_per_dim(28 * 28 * 3 * math.log(256), (28, 28, 3)) == pytest.approx(8)


@pytest.fixture(scope='module')
def terms():
  """Of 6 images with 4 samples each: [24] entries, of 3 iterations and 2 layers."""
  rng = np.random.default_rng(0)
  return objective.Elbo(*(
      jnp.asarray(rng.normal(mean, 2, shape), jnp.float32)
      for mean, shape in ((50, 24), (3, (3, 2, 24)), (18, 24))))


def test_one_sample_elbo_is_equation_12_to_the_bit(terms):
  plain = lambda terms, beta: jnp.mean(
      beta * terms.reconstruction_nats + terms.kl_nats.sum((0, 1)))
  for beta in (1.0, 0.3):
    assert jax.jit(objective.loss)(terms, beta) == jax.jit(plain)(terms, beta)
  np.testing.assert_array_equal(objective.bound(terms), terms.nats)


def test_elbo_averages_an_images_samples(terms):
  expected = [terms.nats[4 * b : 4 * b + 4].mean() for b in range(6)]
  np.testing.assert_allclose(objective.bound(terms, samples=4), expected, rtol=1e-6)


def test_iwae_averages_importance_weights(terms):
  cost = 0.3 * terms.reconstruction_nats + terms.log_ratio_nats
  np.testing.assert_allclose(objective.bound(terms, 0.3, 1, 'iwae'), cost, rtol=1e-6)
  expected = -np.log(np.exp(-np.float64(cost)).reshape(6, 4).mean(1))
  np.testing.assert_allclose(objective.bound(terms, 0.3, 4, 'iwae'), expected, rtol=1e-6)
  far = objective.Elbo(jnp.array([1e4, 2e4]), jnp.zeros((1, 1, 2)), jnp.zeros(2))
  assert objective.bound(far, 1.0, 2, 'iwae') == pytest.approx(1e4 + math.log(2))


def test_unknown_bound_is_named(terms):
  with pytest.raises(ValueError, match='vimco'):
    objective.bound(terms, kind='vimco')

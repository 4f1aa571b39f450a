import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.model import objective


def test_eight_bits_a_pixel_are_eight_bits_per_dim():
  assert objective.bits_per_dim(28 * 28 * 3 * math.log(256), (28, 28, 3)) == pytest.approx(8)


def test_beta_scales_the_reconstruction_alone():
  terms = objective.Elbo(
      jnp.array([10.0, 20.0]), jnp.array([[[1.0, 2.0]], [[3.0, 4.0]]]), jnp.zeros(2))
  np.testing.assert_allclose(terms.nats, [14, 26])
  assert objective.loss(terms, 1.0) == pytest.approx(20)
  assert objective.loss(terms, 0.2) == pytest.approx(0.2 * 15 + 5)


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
  # With the same number of samples for all, the loss is that of the samples.
  assert objective.loss(terms, 0.3, 4) == pytest.approx(float(objective.loss(terms, 0.3)), rel=1e-6)


def test_one_sample_iwae_is_the_estimator_without_closed_form_kl(terms):
  expected = 0.3 * terms.reconstruction_nats + terms.log_ratio_nats
  np.testing.assert_allclose(objective.bound(terms, 0.3, 1, 'iwae'), expected, rtol=1e-6)


def test_iwae_is_the_average_of_importance_weights(terms):
  weights = np.exp(-np.float64(terms.reconstruction_nats + terms.log_ratio_nats))
  expected = -np.log(weights.reshape(6, 4).mean(1))
  np.testing.assert_allclose(objective.bound(terms, 1.0, 4, 'iwae'), expected, rtol=1e-6)


def test_more_samples_tighten_the_iwae_bound(terms):
  losses = [float(objective.loss(terms, 1.0, k, 'iwae')) for k in (1, 2, 4)]
  assert losses[0] > losses[1] > losses[2]
  single = objective.bound(terms, 1.0, 1, 'iwae').reshape(6, 4).mean(1)
  assert (objective.bound(terms, 1.0, 4, 'iwae') < single).all()


def test_iwae_stands_far_apart_weights():
  far = objective.Elbo(jnp.array([1e4, 2e4]), jnp.zeros((1, 1, 2)), jnp.zeros(2))
  assert objective.bound(far, 1.0, 2, 'iwae') == pytest.approx(1e4 + math.log(2))


def test_unknown_bound_is_named(terms):
  with pytest.raises(ValueError, match='vimco'):
    objective.bound(terms, kind='vimco')

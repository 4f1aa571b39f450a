import math

import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import objective


def test_eight_bits_a_pixel_are_eight_bits_per_dim():
  assert objective.bits_per_dim(28 * 28 * 3 * math.log(256), (28, 28, 3)) == pytest.approx(8)


def test_beta_scales_the_reconstruction_alone():
  terms = objective.Elbo(
      jnp.array([10.0, 20.0]), jnp.array([[[1.0, 2.0]], [[3.0, 4.0]]]), jnp.zeros(2))
  np.testing.assert_allclose(terms.nats, [14, 26])
  assert objective.loss(terms, 1.0) == pytest.approx(20)
  assert objective.loss(terms, 0.2) == pytest.approx(0.2 * 15 + 5)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.autoregressive import products


@pytest.mark.parametrize('shape', [(16, 5, 7), (3, 1, 2)])
def test_bfloat16_is_the_product_of_rounded_factors_and_so_are_its_gradients(shape):
  n, i, o = shape
  rng = np.random.default_rng(0)
  x, w, dy = (rng.normal(size=s).astype(np.float32) for s in ((n, i), (i, o), (n, o)))
  rounded = lambda a: np.asarray(jnp.asarray(a, jnp.bfloat16), np.float64)
  y, gradient = jax.vjp(products.bfloat16, x, w)
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, rounded(x) @ rounded(w), rtol=1e-5, atol=1e-5)
  dx, dw = gradient(jnp.asarray(dy))
  np.testing.assert_allclose(dx, rounded(dy) @ rounded(w).T, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(dw, rounded(x).T @ rounded(dy), rtol=1e-5, atol=1e-5)
  assert abs(y - x @ w).max() > 1e-4  # it does round


def test_layouts_change_no_values():
  a = jnp.arange(6.0).reshape(2, 3)
  np.testing.assert_array_equal(jax.jit(products.row_by_row)(a), a)
  np.testing.assert_array_equal(jax.jit(products.column_by_column)(a), a)

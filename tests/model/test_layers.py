import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.model import layers, reference

SIZES = [(8, 8), (7, 9), (2, 3), (13, 4)]
draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize('kernel, stride', [(1, 1), (5, 1), (3, 2), (5, 2), (1, 3), (5, 3)])
@pytest.mark.parametrize('size', SIZES)
def test_convolutions_of_space_to_depth_images_are_strided_ones(size, kernel, stride):
  x, w = draw(0, 2, *size, 3), draw(1, kernel, kernel, 3, 4)
  deep = layers.space_to_depth(x, (stride, stride))
  np.testing.assert_array_equal(layers.depth_to_space(deep, (stride, stride), size), x)
  strided = layers.strided_kernel(w, stride)
  assert len(strided) == layers.strided_side(kernel, stride)
  y = reference.conv(x, w, stride)
  np.testing.assert_allclose(layers.plain_conv(deep, strided), y, rtol=1e-4, atol=1e-4)
  # The adjoint kernel is that of the transposed convolution.
  deep = layers.plain_conv(y, layers.adjoint_kernel(strided))
  np.testing.assert_allclose(
      layers.depth_to_space(deep, (stride, stride), size),
      reference.transposed(y, w, stride, x.shape), rtol=1e-4, atol=1e-3)


def test_gates_of_the_lstm():
  cell, one = jnp.array([[0.7, -0.2]]), jnp.ones((1, 2))
  closed, opened = jnp.full((1, 2), -50.0), jnp.full((1, 2), 50.0)
  run = lambda *gates: layers.lstm(jnp.concatenate(gates, -1), cell)
  hidden, new = run(closed, opened, opened, one)  # input, forget, output, candidate
  np.testing.assert_allclose(new, cell, rtol=1e-6)
  np.testing.assert_allclose(hidden, jnp.tanh(cell), rtol=1e-6)
  np.testing.assert_allclose(run(opened, closed, opened, one)[1], jnp.tanh(1.0) * one, rtol=1e-6)
  np.testing.assert_allclose(run(opened, opened, closed, one)[0], 0, atol=1e-6)

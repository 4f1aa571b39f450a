import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.model import layers


def strided(x, kernel, stride):
  """The convolution that the model means, as lax has it: output i is centred on pixel s*i."""
  pad = kernel.shape[0] // 2
  height, width = x.shape[1:3]
  after = lambda n: max(0, (-(-n // stride) - 1) * stride + pad - (n - 1))
  return jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), [(pad, after(height)), (pad, after(width))],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


SIZES = [(8, 8), (7, 9), (2, 3), (13, 4)]


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('size', SIZES)
def test_space_to_depth_and_back(size, stride):
  x = jax.random.normal(jax.random.key(0), (2, *size, 3))
  deep = layers.space_to_depth(x, (stride, stride))
  np.testing.assert_array_equal(layers.depth_to_space(deep, (stride, stride), size), x)


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('kernel', [1, 3, 5])
@pytest.mark.parametrize('size', SIZES)
def test_strided_convolution_through_space_to_depth(size, kernel, stride):
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (2, *size, 3))
  w = jax.random.normal(keys[1], (kernel, kernel, 3, 4))
  deep = layers.space_to_depth(x, (stride, stride))
  y = layers.plain_conv(deep, layers.strided_kernel(w, stride))
  np.testing.assert_allclose(y, strided(x, w, stride), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', SIZES)
def test_write_is_the_adjoint_of_the_strided_convolution(size, stride):
  keys = jax.random.split(jax.random.key(0), 2)
  kernel = jax.random.normal(keys[0], (5, 5, 3, 4))
  hidden = tuple(-(-n // stride) for n in size)
  h = jax.random.normal(keys[1], (2, *hidden, 4))
  transposed = jax.linear_transpose(
      lambda x: strided(x, kernel, stride), jnp.zeros((2, *size, 3)))(h)[0]
  deep = layers.plain_conv(h, layers.adjoint_kernel(layers.strided_kernel(kernel, stride)))
  np.testing.assert_allclose(
      layers.depth_to_space(deep, (stride, stride), size), transposed, rtol=1e-4, atol=1e-4)


def test_lstm_keeps_its_cell_when_it_forgets_nothing():
  cell = jnp.array([[0.7, -0.2]])
  closed, opened = jnp.full((1, 2), -50.0), jnp.full((1, 2), 50.0)
  gates = jnp.concatenate([closed, opened, opened, jnp.ones((1, 2))], -1)
  hidden, new = layers.lstm(gates, cell)
  np.testing.assert_allclose(new, cell, rtol=1e-6)
  np.testing.assert_allclose(hidden, jnp.tanh(cell), rtol=1e-6)
  gates = jnp.concatenate([opened, closed, opened, jnp.ones((1, 2))], -1)
  np.testing.assert_allclose(layers.lstm(gates, cell)[1], jnp.tanh(1.0) * jnp.ones((1, 2)))

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.model import layers, winograd


def relative_error(value, reference):
  return float(abs(np.asarray(value, np.float64) - reference).max() / abs(reference).max())


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(convolve, x, kernel, g):
  y, transposed = jax.vjp(convolve, x, kernel)
  return y, *transposed(g)


# Even and odd sizes, tiles that fit and that do not, maps smaller than the kernel.
@pytest.mark.parametrize('size', [(4, 4), (14, 14), (16, 16), (7, 5), (2, 3), (1, 1), (13, 6)])
@pytest.mark.parametrize('k', [1, 3, 5, 7])
def test_gradients_are_the_plain_paths(size, k):
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (2, *size, 8), jnp.float32)
  kernel = jax.random.normal(keys[1], (k, k, 8, 16), jnp.float32)
  g = jax.random.normal(keys[2], (2, *size, 16), jnp.float32)
  grid = winograd.Grid(*size, k)

  def convolve(x, kernel):
    return grid.to_maps(grid.convolve([(grid.transform(grid.from_maps(x)), grid.prepare(kernel))]))

  fast = value_and_gradients(convolve, x, kernel, g)
  with jax.enable_x64(True):
    exact = value_and_gradients(
        layers.plain_conv, *(np.asarray(a, np.float64) for a in (x, kernel, g)))
  for value, reference in zip(fast, exact, strict=True):
    assert value.dtype == jnp.float32
    assert relative_error(value, np.asarray(reference)) < 2e-5


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('k', [3, 5])
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (3, 4)])
def test_sums_of_strided_and_plain_convolutions(size, k, stride):
  """As the recurrence has it: several arrays, kernels of two sizes, one array read twice."""
  keys = jax.random.split(jax.random.key(1), 7)
  hidden = tuple(-(-n // stride) for n in size)
  draw = lambda key, *shape: np.asarray(jax.random.normal(key, shape))
  operands = (
      draw(keys[0], 2, *size, 3), draw(keys[1], 2, *hidden, 4), draw(keys[2], k, k, 3, 6),
      draw(keys[3], k, k, 4, 6), draw(keys[4], k, k, 4, 2))
  cotangents = draw(keys[5], 2, *hidden, 6), draw(keys[6], 2, *hidden, 2)

  def values_and_gradients(grid, operands, cotangents):
    def convolve(image, h, strided, same, other):
      read = lambda x: grid.transform(grid.from_maps(x))
      shared = read(h)
      both = grid.convolve([
          (read(layers.space_to_depth(image, (stride, stride))),
           grid.prepare(layers.strided_kernel(strided, stride))),
          (shared, grid.prepare(same))])
      return grid.to_maps(both), grid.to_maps(grid.convolve([(shared, grid.prepare(other))]))

    values, transposed = jax.vjp(convolve, *operands)
    return *values, *transposed(cotangents)

  run = lambda grid: jax.jit(functools.partial(values_and_gradients, grid))
  fast = run(winograd.Grid(*hidden, k))(operands, cotangents)
  with jax.enable_x64(True):
    operands = tuple(x.astype(np.float64) for x in operands)
    exact = run(layers.PlainGrid(hidden, jnp.float64))(operands, cotangents)
  for value, reference in zip(fast, exact, strict=True):
    assert relative_error(value, np.asarray(reference, np.float64)) < 2e-5


def test_what_lies_beyond_the_map_is_not_read():
  grid = winograd.Grid(7, 7, 5)
  kernel = grid.prepare(jnp.ones((5, 5, 1, 1)))
  inside = grid.from_maps(jnp.ones((1, 7, 7, 1)))
  beyond = 1 - inside
  assert beyond.max() == 1
  run = lambda x: grid.to_maps(grid.convolve([(grid.transform(x), kernel)]))
  np.testing.assert_array_equal(run(inside), run(inside + 1e6 * beyond))


@pytest.mark.parametrize('size, k, multiplications', [(4, 5, 7), (14, 5, 27), (16, 5, 32)])
def test_plans_need_few_multiplications(size, k, multiplications):
  plan = winograd.plan(size, k)
  assert plan.tiles * len(plan.inputs) == multiplications < size * k

"""Winograd convolutions (Cook and Toom), the fast path on CPUs.

XLA:CPU is slow at convolutions inside a scan, and slower at their gradients. Here a convolution is
one batched matrix product over transformed positions: 64 multiplications for the 16 outputs of a
4x4 tile, where a direct 5x5 convolution takes 400 (Lavin & Gray, 2016). Gradients are the
transposed transforms, written out: automatic differentiation of slices and stacks is slower.

In the grid's layout, [m_r, m_c, B, t_r, t_c, C], the position inside a tile comes first, so that a
transform is a sum of long contiguous slabs: pixel (m_r i + a, m_c j + b) of image n is at
[a, b, n, i, j]. Cells beyond the map have arbitrary values.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Interpolation points by the number of positions: infinity, these points with both signs, and 0 if
# the number of the others is odd. Found by a search for accuracy in float32 (3e-6 at 8 positions,
# 8e-6 at 9).
PAIRS = {
    1: (), 2: (), 3: (1,), 4: (1,), 5: (0.5, 1), 6: (0.5, 1), 7: (0.25, 0.75, 2),
    8: (0.5, 1, 1.75), 9: (0.25, 0.6875, 1.0625, 2.3125)}
MAX_POSITIONS = {3: 8, 5: 9}  # by kernel side; more, or other sides, are inaccurate
# Nine positions, the least accurate, are used where they save more than this share of the
# multiplications, as 3 tiles of 5 cells do on a map of 14.
NINE_SAVING = 0.1


class Plan(NamedTuple):
  """Convolution along one axis: outputs @ ((taps @ kernel) * (inputs @ window))."""

  tiles: int
  m: int  # outputs of a tile
  halo: int  # cells of a window before its tile
  inputs: np.ndarray  # [positions, window]
  taps: np.ndarray  # [positions, k]
  outputs: np.ndarray  # [m, positions]


class Transformed(NamedTuple):
  """An array ready to be convolved."""

  cells: jax.Array  # in the grid's layout; the backward pass keeps these, a quarter of the size
  values: jax.Array  # [positions, B t_r t_c, C]


def cook_toom(m, k):
  """(outputs [m, n], taps [n, k], inputs [n, n]) of a `Plan` with n = m + k - 1 positions."""
  n = m + k - 1
  points = ([0.0] if n % 2 == 0 else []) + [sign * p for p in PAIRS[n] for sign in (1, -1)]
  powers = lambda size: np.vander(points, size, increasing=True).reshape(n - 1, size)
  infinity = lambda size: np.eye(size)[-1:]
  outputs, taps = np.vstack([powers(m), infinity(m)]).T, np.vstack([powers(k), infinity(k)])
  inputs = np.zeros((n, n))
  for i, point in enumerate(points):
    others = points[:i] + points[i + 1 :]
    inputs[i, : n - 1] = np.atleast_1d(np.poly(others))[::-1]
    taps[i] /= np.prod([point - other for other in others])
  inputs[-1] = np.atleast_1d(np.poly(points))[::-1]
  return outputs, taps, inputs


@functools.cache
def plan(size, k):
  """The `Plan` with the fewest multiplications, of `size` cells and an odd kernel side k."""
  half = k // 2
  best = Plan(size, 1, half, np.eye(k), np.eye(k), np.ones((1, k)))  # direct, k for each cell
  for n in range(k + 1, MAX_POSITIONS.get(k, 0) + 1):
    tiles = -(-size // (n + 1 - k))
    if tiles * n < best.tiles * len(best.inputs) * (1 - NINE_SAVING if n == 9 else 1):
      outputs, taps, inputs = cook_toom(n + 1 - k, k)
      best = Plan(tiles, n + 1 - k, half, inputs, taps, outputs)
  n = 2 * size - 1
  if n <= 8 and n < best.tiles * len(best.inputs):
    # A map smaller than the kernel, in one tile without a halo. Correlation is symmetric: the map
    # takes the place of the taps, the kernel, shifted to every output, that of the inputs.
    outputs, taps, inputs = cook_toom(size, size)
    shift = size - 1 - half
    kernel = np.zeros((n, k))
    for j in range(k):
      if 0 <= j + shift < n:
        kernel[:, j] = inputs[:, j + shift]
    best = Plan(1, size, 0, taps, kernel, outputs[::-1])
  return best


class Grid:
  """Sums of zero-padded stride-1 convolutions of maps of one size, as of `layers.grid`."""

  def __init__(self, height, width, kernel):
    """For maps of height x width and kernels up to kernel x kernel, odd."""
    self._height, self._width, self._kernel = height, width, kernel
    self._rows, self._columns = plan(height, kernel), plan(width, kernel)
    self._to_values = jax.custom_vjp(self._values)
    self._to_values.defvjp(lambda x: (self._values(x), None), lambda _, g: (self._tiles(g),))
    self._sum = jax.custom_vjp(lambda *operands: self._sum_forward(*operands)[0])
    self._sum.defvjp(self._sum_forward, self._sum_backward)

  def zeros(self, batch, channels):
    """Maps of zeros, in the grid's layout."""
    r, c = self._rows, self._columns
    return jnp.zeros((r.m, c.m, batch, r.tiles, c.tiles, channels))

  def from_maps(self, x):
    """[B, h, w, C] -> the grid's layout."""
    r, c, (batch, _, _, channels) = self._rows, self._columns, x.shape
    below, right = r.tiles * r.m - self._height, c.tiles * c.m - self._width
    x = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))
    return x.reshape(batch, r.tiles, r.m, c.tiles, c.m, channels).transpose(2, 4, 0, 1, 3, 5)

  def to_maps(self, y):
    """The grid's layout -> [B, h, w, C]."""
    r, c, (_, _, batch, _, _, channels) = self._rows, self._columns, y.shape
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(batch, r.tiles * r.m, c.tiles * c.m, channels)
    return y[:, : self._height, : self._width]

  def prepare(self, kernel):
    """[k, k, I, O] -> ([positions, I, O], its transpose [positions, O, I] for the gradient).

    A 1x1 kernel of a grid of larger ones: ([I, O], None), a factor of a plain matrix product.
    """
    k, _, inputs, outputs = kernel.shape
    if k < self._kernel and k == 1:
      return kernel[0, 0], None
    cut = slice((self._kernel - k) // 2, (self._kernel + k) // 2)
    taps = np.kron(self._rows.taps[:, cut], self._columns.taps[:, cut])
    u = jnp.dot(jnp.asarray(taps, kernel.dtype), kernel.reshape(k * k, -1), precision='highest')
    u = u.reshape(-1, inputs, outputs)
    return u, u.swapaxes(1, 2)

  def transform(self, x):
    """The grid's layout -> `Transformed`."""
    return Transformed(x, self._to_values(x))

  def convolve(self, terms):
    """[(`Transformed`, prepared kernel), ...] -> their sum, in the grid's layout."""
    direct = [jnp.matmul(a.cells, u) for a, (u, transposed) in terms if transposed is None]
    terms = [term for term in terms if term[1][1] is not None]
    if terms:
      arrays, kernels = zip(*terms, strict=True)
      # One product over all input channels is faster than a sum of products.
      direct.append(self._sum(
          [a.cells for a in arrays], [a.values for a in arrays],
          jnp.concatenate([u for u, _ in kernels], 1),
          jnp.concatenate([transposed for _, transposed in kernels], 2)))
    return functools.reduce(jnp.add, direct)

  def _mask(self, x):
    """`x` with zeros in the cells beyond the map."""
    for axis, p, size in ((0, self._rows, self._height), (1, self._columns, self._width)):
      if p.tiles * p.m > size:
        valid = np.arange(p.m)[:, None] + p.m * np.arange(p.tiles) < size
        shape = np.ones(6, int)
        shape[[axis, 3 + axis]] = valid.shape
        x = x * valid.reshape(shape).astype(x.dtype)
    return x

  def _values(self, x):
    x = _spread(self._rows, _spread(self._columns, self._mask(x), 1), 0)
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])

  def _tiles(self, g):
    """The transpose of `_values`."""
    r, c = self._rows, self._columns
    g = g.reshape(len(r.inputs), len(c.inputs), -1, r.tiles, c.tiles, g.shape[-1])
    return self._mask(_gather(c, _gather(r, g, 0), 1))

  def _sum_forward(self, cells, values, u, transposed):
    product = jnp.concatenate(values, -1) @ u
    product = product.reshape(len(self._rows.inputs), len(self._columns.inputs), -1)
    y = _apply(self._rows.outputs, _apply(self._columns.outputs, product, 1), 0)
    return y.reshape(*cells[0].shape[:-1], u.shape[-1]), (cells, u, transposed)

  def _sum_backward(self, saved, g):
    cells, u, transposed = saved
    g = g.reshape(self._rows.m, self._columns.m, -1)
    g = _apply(self._columns.outputs.T, _apply(self._rows.outputs.T, g, 0), 1)
    g = g.reshape(u.shape[0], -1, u.shape[-1])
    # Recomputing the values is cheaper than storing four times the memory and reading it back.
    values = jnp.concatenate([self._values(x) for x in cells], -1)
    places = np.cumsum([x.shape[-1] for x in cells])[:-1]
    kernel_gradient = jnp.einsum('pni,pno->pio', values, g)
    # Cells and the transposed kernel repeat values and u, and so get no gradient. They have no
    # `stop_gradient`: second derivatives pass through them.
    return None, jnp.split(g @ transposed, places, -1), kernel_gradient, None


def _spread(p, x, axis):
  """Windows of a `Plan` along one axis, transformed: [.. m .. tiles ..] -> [.. n .. tiles ..]."""
  reach = -(-p.halo // p.m) if p.tiles > 1 else 0  # tiles that a window overlaps, on either side
  padding = [(0, 0)] * x.ndim
  padding[3 + axis] = (reach, reach)
  x = jnp.pad(x, padding)
  window = []
  for i in range(p.inputs.shape[1]):
    tile, cell = divmod(i - p.halo, p.m)
    if abs(tile) > reach:
      window.append(None)
      continue
    slab = jax.lax.index_in_dim(x, cell, axis, keepdims=False)
    window.append(
        jax.lax.slice_in_dim(slab, reach + tile, reach + tile + p.tiles, axis=2 + axis))
  return jnp.stack(_combine(p.inputs, window), axis)


def _gather(p, g, axis):
  """The transpose of `_spread`: windows added up where they overlap."""
  slabs = [jax.lax.index_in_dim(g, i, axis, keepdims=False) for i in range(g.shape[axis])]
  cells = [None] * p.m
  for i, slab in enumerate(_combine(p.inputs.T, slabs)):
    tile, cell = divmod(i - p.halo, p.m)
    if abs(tile) >= p.tiles:
      continue
    padding = [(0, 0, 0)] * slab.ndim
    padding[2 + axis] = (tile, -tile, 0)
    slab = jax.lax.pad(slab, jnp.zeros((), slab.dtype), padding) if tile else slab
    cells[cell] = slab if cells[cell] is None else cells[cell] + slab
  return jnp.stack(cells, axis)


def _apply(matrix, x, axis):
  """matrix @ x along an axis."""
  slabs = [jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]
  return jnp.stack(_combine(matrix, slabs), axis)


def _combine(matrix, slabs):
  """[sum_j matrix[i, j] slabs[j] for every i]; a slab None is zero.

  Zero entries cost nothing; 1 and -1 cost no multiplication. The operations are those of `jax.lax`,
  which are traced in half the time of `jax.numpy`'s.
  """
  sums = []
  for row in matrix:
    total = None
    for weight, slab in zip(row, slabs, strict=True):
      if weight and slab is not None:
        if weight == 1:
          term = slab
        elif weight == -1:
          term = jax.lax.neg(slab)
        else:
          term = jax.lax.mul(slab, np.asarray(weight, slab.dtype))
        total = term if total is None else jax.lax.add(total, term)
    sums.append(total)
  return sums

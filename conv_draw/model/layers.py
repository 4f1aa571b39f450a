"""Linear operations and the LSTM: the paper's "convolutions are used for all linear operations".

Every convolution of the recurrence is stride 1, zero padded, at the hidden resolution: a
stride-s convolution of an image is a stride-1 convolution of its space-to-depth form, and the
transposed one is its adjoint.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.model import winograd


class Layer(NamedTuple):
  """One layer of latents and what computes them."""

  features: int  # F, of its hidden states
  latents: int  # Z, maps
  stride: int  # from the layer below, or from the image; 0 = fully connected to it

  def size(self, below):
    """(h, w) of its maps, given that of the layer below; a fully connected layer has one cell."""
    return tuple(-(-n // s) for n, s in zip(below, self.block(below), strict=True))

  def block(self, below):
    """(rows, columns) of the cells below that make one cell of this layer."""
    return (self.stride, self.stride) if self.stride else tuple(below)


def space_to_depth(x, block):
  """[B, H, W, C] -> [B, ceil(H/a), ceil(W/b), a*b*C], zero padded at the bottom and right.

  Args:
    block: (a, b), how many rows and columns become channels of one cell: s, s or H, W.
  """
  n, height, width, c = x.shape
  (a, b), h, w = block, -(-height // block[0]), -(-width // block[1])
  x = jnp.pad(x, ((0, 0), (0, h * a - height), (0, w * b - width), (0, 0)))
  x = x.reshape(n, h, a, w, b, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h, w, a * b * c)


def depth_to_space(x, block, size):
  """[B, h, w, a*b*C] -> [B, H, W, C], undoing `space_to_depth` and its padding; size is (H, W)."""
  n, h, w, c = x.shape
  a, b = block
  x = x.reshape(n, h, w, a, b, c // (a * b)).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h * a, w * b, c // (a * b))[:, : size[0], : size[1]]


def strided_kernel(kernel, stride):
  """The kernel that acts on space-to-depth images as `kernel` does with a stride on images.

  Args:
    kernel: [k, k, C, O]: k odd, and output i of the strided convolution is centred on pixel s*i;
      or k = s even, and it reads pixels s*i to s*i + s - 1.
  Returns:
    [k', k', s*s*C, O] with k' odd.
  """
  k, _, c, o = kernel.shape
  reach = k // 2 if k % 2 else 0
  size = strided_side(k, stride)
  blocks = size // 2
  before = blocks * stride - reach
  after = size * stride - before - k
  kernel = jnp.pad(kernel, ((before, after), (before, after), (0, 0), (0, 0)))
  kernel = kernel.reshape(size, stride, size, stride, c, o).transpose(0, 2, 1, 3, 4, 5)
  return kernel.reshape(size, size, stride * stride * c, o)


def strided_side(k, stride):
  """k' of `strided_kernel`: the kernel reaches to so many blocks to either side, and its own."""
  return 2 * -(-(k // 2 if k % 2 else 0) // stride) + 1


def adjoint_kernel(kernel):
  """[k, k, I, O] -> [k, k, O, I]: the kernel of the transposed convolution."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def plain_conv(x, kernel):
  """Zero-padded stride-1 convolution: [B, h, w, I], [k, k, I, O] -> [B, h, w, O]."""
  return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


class PlainGrid:
  """Sums of convolutions as one `lax` convolution of the concatenated inputs: GPUs and TPUs.

  Kernels of one cell have a convolution of their own.

  The interface of `winograd.Grid`, see `grid`, whose own layout this one does not need.
  """

  def __init__(self, size, dtype):
    """For maps of (h, w), with operands of that type."""
    self._size, self._dtype = size, dtype

  def zeros(self, batch, channels):
    return jnp.zeros((batch, *self._size, channels))

  def enter(self, x):
    return x

  def leave(self, y):
    return y

  def prepare(self, kernel):
    return kernel  # cast where it is used: its gradient is then summed over iterations in float32

  def transform(self, x):
    return x.astype(self._dtype)

  def convolve(self, terms):
    of_one_cell = [term for term in terms if term[1].shape[0] == 1]
    others = [term for term in terms if term[1].shape[0] > 1]
    return functools.reduce(jnp.add, [
        self._one_convolution(some) for some in (of_one_cell, others) if some])

  def _one_convolution(self, terms):
    inputs, kernels = zip(*terms, strict=True)
    side = max(k.shape[0] for k in kernels)
    grow = lambda k: jnp.pad(k, (((side - k.shape[0]) // 2,) * 2,) * 2 + ((0, 0),) * 2)
    y = plain_conv(
        jnp.concatenate(inputs, -1),
        jnp.concatenate([grow(k) for k in kernels], 2).astype(self._dtype))
    return y.astype(jnp.float32)


def grid(size, kernel, dtype, use_winograd=True):
  """Convolutions of maps of one size, on the path that is fastest on this platform.

  `enter` and `leave` change between [B, h, w, C] and the grid's own layout, in which hidden states
  stay: elementwise work need not know it. `transform` makes an array ready to be convolved, once
  however many convolutions read it, and `prepare` a kernel [k, k, I, O]. `convolve` sums over
  [(transformed array, prepared kernel), ...] and answers float32 in the grid's layout.

  Args:
    size: (h, w) of the maps.
    kernel: side of the largest kernel, odd.
    dtype: of the products' operands.
    use_winograd: whether float32 on CPUs takes Winograd's convolutions, which have no forward-mode
      derivatives.
  Returns:
    `PlainGrid` or `winograd.Grid`: one object for equal arguments, so that they compare equal.
  """
  if use_winograd and jax.default_backend() == 'cpu' and dtype == jnp.float32:
    return _winograd_grid(*size, kernel)
  return _plain_grid(size, np.dtype(dtype))


_winograd_grid = functools.cache(winograd.Grid)
_plain_grid = functools.cache(PlainGrid)


def add_bias(x, bias):
  """x + bias, [..., C] and [C]; or, of a map of cells, [B, h, w, C] and [h, w, C]."""
  return x + jax.lax.broadcast_to_rank(bias, x.ndim)


def lstm(gates, cell):
  """Convolutional LSTM (Hochreiter & Schmidhuber, 1997) after its linear part.

  Args:
    gates: [..., 4 F] summed pre-activations of input, forget, output gate and candidate.
    cell: [..., F].
  Returns:
    (hidden [..., F], cell [..., F]).
  """
  i, f, o, u = jnp.split(gates, 4, axis=-1)
  cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(u)
  return jax.nn.sigmoid(o) * jnp.tanh(cell), cell

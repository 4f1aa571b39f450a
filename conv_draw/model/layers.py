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
  """The sizes of one layer of latents."""

  features: int  # F, feature maps of its LSTMs
  latents: int  # Z, latent maps
  stride: int  # from the layer below, or from the image; 0 = fully connected to it

  def size(self, below):
    """(h, w) of its maps, given the size below; (1, 1) of a fully connected layer."""
    return tuple(-(-n // s) for n, s in zip(below, self.block(below), strict=True))

  def block(self, below):
    """(rows, columns) of the cells below that make one cell of this layer."""
    return (self.stride, self.stride) if self.stride else tuple(below)


def space_to_depth(x, block):
  """[B, H, W, C] -> [B, ceil(H/a), ceil(W/b), a*b*C], zero padded at the bottom and right.

  Args:
    block: (a, b) rows and columns of a cell: (s, s), or (H, W) of a fully connected layer.
  """
  n, height, width, c = x.shape
  (a, b), h, w = block, -(-height // block[0]), -(-width // block[1])
  x = jnp.pad(x, ((0, 0), (0, h * a - height), (0, w * b - width), (0, 0)))
  x = x.reshape(n, h, a, w, b, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h, w, a * b * c)


def depth_to_space(x, block, size):
  """[B, h, w, a*b*C] -> [B, H, W, C] of size (H, W): the inverse of `space_to_depth`."""
  n, h, w, c = x.shape
  a, b = block
  x = x.reshape(n, h, w, a, b, c // (a * b)).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h * a, w * b, c // (a * b))[:, : size[0], : size[1]]


def strided_kernel(kernel, stride):
  """The kernel that acts on space-to-depth images as a strided convolution by `kernel` on images.

  Args:
    kernel: [k, k, C, O]. With k odd, output i of the strided convolution is centred on pixel s*i;
      with k = s even, it reads pixels s*i to s*i + s - 1.
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
  """k' of `strided_kernel`: the cell itself, and those on either side that the kernel reaches."""
  return 2 * -(-(k // 2 if k % 2 else 0) // stride) + 1


def merge_cells(x):
  """[B, h, w, s*s, C] -> [B, h, w, s*s*C]."""
  return x.reshape(*x.shape[:3], -1)


def adjoint_kernel(kernel):
  """[k, k, I, O] -> [k, k, O, I]: the kernel of the transposed convolution."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def plain_conv(x, kernel):
  """Zero-padded stride-1 convolution: [B, h, w, I], [k, k, I, O] -> [B, h, w, O]."""
  return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


class PlainGrid:
  """Sums of convolutions as one `lax` convolution of the concatenated inputs, for GPUs and TPUs.

  1x1 kernels have a convolution of their own. The interface is that of `winograd.Grid` (see
  `grid`); the layout is that of maps, [B, h, w, C].
  """

  def __init__(self, size, dtype):
    """For maps of `size` (h, w), with operands of type `dtype`."""
    self._size, self._dtype = size, dtype

  def zeros(self, batch, channels):
    return jnp.zeros((batch, *self._size, channels))

  def from_maps(self, x):
    return x

  def to_maps(self, y):
    return y

  def prepare(self, kernel):
    return kernel  # cast in `convolve`, so that its gradient is summed over iterations in float32

  def transform(self, x):
    return x.astype(self._dtype)

  def convolve(self, terms):
    single = [term for term in terms if term[1].shape[0] == 1]
    others = [term for term in terms if term[1].shape[0] > 1]
    return functools.reduce(jnp.add, [
        self._one_convolution(some) for some in (single, others) if some])

  def _one_convolution(self, terms):
    inputs, kernels = zip(*terms, strict=True)
    side = max(k.shape[0] for k in kernels)
    grow = lambda k: jnp.pad(k, (((side - k.shape[0]) // 2,) * 2,) * 2 + ((0, 0),) * 2)
    y = plain_conv(
        jnp.concatenate(inputs, -1),
        jnp.concatenate([grow(k) for k in kernels], 2).astype(self._dtype))
    return y.astype(jnp.float32)


def grid(size, kernel, dtype, use_winograd=True):
  """Convolutions of maps of one size, by the fastest method for this platform.

  `from_maps` and `to_maps` convert between maps [B, h, w, C] and the grid's own layout, which suits
  elementwise operations as it is. `transform` makes an array ready to be convolved, once for all
  convolutions that read it; `prepare` does so with a kernel [k, k, I, O]. `convolve` sums the
  convolutions of [(transformed array, prepared kernel), ...]: float32, in the grid's layout.

  Args:
    size: (h, w) of the maps.
    kernel: side of the largest kernel, odd.
    dtype: of the convolutions' operands.
    use_winograd: whether to use Winograd convolutions for float32 on CPUs; they have no
      forward-mode derivatives.
  Returns:
    `PlainGrid` or `winograd.Grid`; the same object for equal arguments.
  """
  if use_winograd and jax.default_backend() == 'cpu' and dtype == jnp.float32:
    return _winograd_grid(*size, kernel)
  return _plain_grid(size, np.dtype(dtype))


_winograd_grid = functools.cache(winograd.Grid)
_plain_grid = functools.cache(PlainGrid)


def add_bias(x, bias):
  """x + bias, of shapes [..., C] and [C], or [B, h, w, C] and [h, w, C]."""
  return x + jax.lax.broadcast_to_rank(bias, x.ndim)


def lstm(gates, cell):
  """The LSTM (Hochreiter & Schmidhuber, 1997) of equations (2) and (6), after its linear part.

  Args:
    gates: [..., 4 F] pre-activations of input, forget and output gate and of the candidate.
    cell: [..., F].
  Returns:
    (hidden [..., F], cell [..., F]).
  """
  i, f, o, u = jnp.split(gates, 4, axis=-1)
  cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(u)
  return jax.nn.sigmoid(o) * jnp.tanh(cell), cell

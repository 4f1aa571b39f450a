"""Linear operations and the LSTM: the paper's "convolutions are used for all linear operations".

Every convolution of the recurrence is stride 1, zero padded, at the hidden resolution: a
stride-s convolution of an image is a stride-1 convolution of its space-to-depth form, and the
transposed one is its adjoint.
"""

import functools

import jax
import jax.numpy as jnp

DIMENSION_NUMBERS = ('NHWC', 'HWIO', 'NHWC')


def space_to_depth(x, stride):
  """[B, H, W, C] -> [B, ceil(H/s), ceil(W/s), s*s*C], zero padded at the bottom and right."""
  b, height, width, c = x.shape
  h, w = -(-height // stride), -(-width // stride)
  x = jnp.pad(x, ((0, 0), (0, h * stride - height), (0, w * stride - width), (0, 0)))
  x = x.reshape(b, h, stride, w, stride, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h, w, stride * stride * c)


def depth_to_space(x, stride, image_size):
  """[B, h, w, s*s, C] -> [B, H, W, C], undoing `space_to_depth` and its padding."""
  b, h, w, _, c = x.shape
  x = x.reshape(b, h, w, stride, stride, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * stride, w * stride, c)[:, : image_size[0], : image_size[1]]


def strided_kernel(kernel, stride):
  """The kernel that acts on space-to-depth images as `kernel` does with a stride on images.

  Args:
    kernel: [k, k, C, O], k odd; output i of the strided convolution is centred on pixel s*i.
  Returns:
    [k', k', s*s*C, O] with k' odd.
  """
  k, _, c, o = kernel.shape
  reach = k // 2
  blocks = -(-reach // stride)  # how many blocks the kernel reaches to either side
  size = 2 * blocks + 1
  before = blocks * stride - reach
  after = size * stride - before - k
  kernel = jnp.pad(kernel, ((before, after), (before, after), (0, 0), (0, 0)))
  kernel = kernel.reshape(size, stride, size, stride, c, o).transpose(0, 2, 1, 3, 4, 5)
  return kernel.reshape(size, size, stride * stride * c, o)


def adjoint_kernel(kernel):
  """[k, k, I, O] -> [k, k, O, I]: the kernel of the transposed convolution."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


@functools.partial(jax.custom_vjp)
def conv(x, kernel):
  """Zero-padded stride-1 convolution: [B, h, w, I], [k, k, I, O] -> [B, h, w, O]."""
  return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=DIMENSION_NUMBERS
  )


def _conv_forward(x, kernel):
  return conv(x, kernel), (x, kernel)


def _conv_backward(residuals, g):
  x, kernel = residuals
  k, _, i, o = kernel.shape
  pad = k // 2
  h, w = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  patches = jnp.stack(
      [padded[:, dy : dy + h, dx : dx + w] for dy in range(k) for dx in range(k)], axis=-2
  ).reshape(-1, k * k * i)
  kernel_gradient = (patches.T @ g.reshape(-1, o)).reshape(kernel.shape)
  return conv(g, adjoint_kernel(kernel)), kernel_gradient


conv.defvjp(_conv_forward, _conv_backward)


def prepare(kernel, dtype):
  return kernel.astype(dtype)


def transform(x, dtype):
  return x.astype(dtype)


def convolve(terms, size):
  """Sum of convolutions: [(transform(x), prepare(kernel)), ...] -> [B, h, w, O] float32."""
  return sum(conv(x, kernel) for x, kernel in terms).astype(jnp.float32)


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

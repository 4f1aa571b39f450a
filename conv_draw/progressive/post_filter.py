"""The post-filter: a small convolutional network from the canvas to the picture.

The canvas, synthesised cell by cell, has discontinuities between cells, and its errors resemble the
basis functions of the transform. The network reads it in units d_t of the errors of iteration t:

  picture = r + d_t f_t((r - m) / d_t),  m the mean of r in a square around the pixel

The recurrence never reads the picture: priors and latents do not depend on the filter, and a
decoder runs it once, at the end.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw.model import layers

BLOCK = 2  # side in pixels of the blocks that become positions of the network's maps
KERNELS = 3  # number of convolutions
RADIUS = 4  # of the square of m, in pixels
CLIP = 8.0  # of the network's inputs
OUTPUT_SCALE = 0.25  # unit of the network's output, in d_t
# Scales of the parameters, so that one learning rate suits all parameters of a model.
KERNEL_SCALE, BIAS_SCALE = 10.0, 30.0


class Weights(NamedTuple):
  """The parameters of `KERNELS` convolutions."""

  kernels: list  # [3, 3, I, O] each / KERNEL_SCALE
  biases: list  # [T, O] each / BIAS_SCALE
  places: list  # [n, n, O] each / BIAS_SCALE: biases by position in a cell of n x n blocks
  gains: list  # [T, O] log of a factor / BIAS_SCALE; the last convolution has none
  size: jax.Array  # [T] d_t, of pixels in [0, 1]; not trained


def create(param, channels, features, iterations, stride):
  """Initial `Weights`, whose filter is the identity.

  Args:
    param: `nn.Module.param`.
    channels: C.
    features: F, of the hidden maps.
    iterations: T.
    stride: side of the transform's cells, in pixels.
  """
  block = BLOCK * BLOCK * channels
  sizes = [block, *[features] * (KERNELS - 1), block]
  zeros = nn.initializers.zeros
  he_normal = nn.initializers.variance_scaling(2 / KERNEL_SCALE**2, 'fan_in', 'truncated_normal')
  n = 1 if stride % BLOCK else stride // BLOCK
  made = Weights([], [], [], [], param('restoration_size', nn.initializers.ones, (iterations,)))
  for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False), 1):
    last = i == KERNELS
    made.kernels.append(param(
        f'restoration_kernel_{i}', zeros if last else he_normal, (3, 3, inputs, outputs)))
    made.biases.append(param(f'restoration_bias_{i}', zeros, (iterations, outputs)))
    made.places.append(param(f'restoration_place_{i}', zeros, (n, n, outputs)))
    if not last:
      made.gains.append(param(f'restoration_gain_{i}', zeros, (iterations, outputs)))
  return made


def apply(weights, r, t):
  """The pictures [B, H, W, C] of canvases.

  Args:
    weights: `Weights`.
    r: [B, H, W, C] means of the canvases, in [0, 1].
    t: int32 [B] iterations, 0..T; 0 leaves an image unchanged.
  """
  height, width = r.shape[1:3]
  # Padded to whole blocks, with the values at the edges.
  even = jnp.pad(r, ((0, 0), (0, height % BLOCK), (0, width % BLOCK), (0, 0)), mode='edge')
  done, at = t > 0, jnp.maximum(t - 1, 0)
  by_image = lambda values: values[at][:, None, None]
  size = by_image(jax.lax.stop_gradient(weights.size)[:, None])
  x = jnp.clip((even - _mean_around(even)) / size, -CLIP, CLIP)
  x = _blocks(x)
  for i, (kernel, bias, places) in enumerate(
      zip(weights.kernels, weights.biases, weights.places, strict=True)):
    x = _convolved(x, KERNEL_SCALE * kernel)
    repeats = [-(-n // m) for n, m in zip(x.shape[1:3], places.shape[:2], strict=True)]
    places = jnp.tile(places, (*repeats, 1))[: x.shape[1], : x.shape[2]]
    x = x + BIAS_SCALE * (by_image(bias) + places[None])
    if i < len(weights.gains):
      x = jax.nn.relu(x) * jnp.exp(BIAS_SCALE * by_image(weights.gains[i]))
  written = _pixels(x)[:, :height, :width]
  return r + OUTPUT_SCALE * size * written * done[:, None, None, None].astype(r.dtype)


def _convolved(x, kernel):
  """The convolution [B, h, w, I], [3, 3, I, O] -> [B, h, w, O], padded with edge values."""
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='edge')
  grid = layers.grid(x.shape[1:3], 3, x.dtype)
  y = grid.convolve([(grid.transform(grid.from_maps(x)), grid.prepare(kernel))])
  return grid.to_maps(y)[:, 1:-1, 1:-1]


def _mean_around(x):
  """The mean of the (2 RADIUS + 1)^2 pixels around each pixel."""
  x = jnp.pad(x, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)), mode='edge')
  side = 2 * RADIUS + 1
  h, w = x.shape[1] - side + 1, x.shape[2] - side + 1
  x = sum(x[:, i : i + h] for i in range(side))
  return sum(x[:, :, i : i + w] for i in range(side)) / side**2


def _blocks(x):
  """[B, H, W, C] -> [B, H / BLOCK, W / BLOCK, BLOCK BLOCK C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // BLOCK, BLOCK, w // BLOCK, BLOCK, c).swapaxes(2, 3)
  return x.reshape(b, h // BLOCK, w // BLOCK, BLOCK * BLOCK * c)


def _pixels(x):
  """The inverse of `_blocks`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, BLOCK, BLOCK, c // BLOCK**2).swapaxes(2, 3)
  return x.reshape(b, h * BLOCK, w * BLOCK, c // BLOCK**2)

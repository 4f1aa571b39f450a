"""The post-filter: a small convolutional network between the canvas and the picture.

A canvas that is painted cell by cell has steps where cells touch, and its errors look like what the
latents paint. The network reads them in units d_t of the errors of an iteration:

  picture = r + d_t f_t((r - m) / d_t),  m the mean of r in a square around the pixel

It is no part of the recurrence, which never reads the picture: priors and latents do not depend on
it, and a decoder runs it once, in the end.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw.model import layers

BLOCK = 2  # pixels a side that are one place of the network's maps
KERNELS = 3
RADIUS = 4  # pixels to each side that m is the mean of
CLIP = 8.0  # of what the network reads: larger differences are clipped
OUTPUT_SCALE = 0.25  # of d_t, the unit of the network's output
# Scales that make steps of an optimiser, alike for all parameters of a model, suit these.
KERNEL, BIAS = 10.0, 30.0


class Weights(NamedTuple):
  """A network of `KERNELS` convolutions, with what they are followed by."""

  kernels: list  # [3, 3, I, O] each / KERNEL
  biases: list  # [T, O] each / BIAS
  places: list  # [n, n, O] each / BIAS: biases by place in a cell of n x n blocks
  gains: list  # [T, O], but for the last one: log of a factor / BIAS
  size: jax.Array  # [T] d_t, in units of an image's range; not trained


def create(param, channels, features, iterations, stride):
  """`Weights` of a filter that changes nothing yet.

  Args:
    param: `nn.Module.param`.
    channels: C.
    features: F, of the hidden maps.
    iterations: T.
    stride: of the cells that the canvas is painted in.
  """
  block = BLOCK * BLOCK * channels
  sizes = [block, *[features] * (KERNELS - 1), block]
  zeros = nn.initializers.zeros
  he_normal = nn.initializers.variance_scaling(2 / KERNEL**2, 'fan_in', 'truncated_normal')
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
  """[B, H, W, C], the pictures of canvases with means r [B, H, W, C] after iterations t [B].

  Args:
    weights: `Weights`.
    r: in 0..1.
    t: int32 in 1..T; an image of 0 iterations stays as it is.
  """
  height, width = r.shape[1:3]
  # Of whole blocks; beyond its edges a picture goes on as it ends.
  even = jnp.pad(r, ((0, 0), (0, height % BLOCK), (0, width % BLOCK), (0, 0)), mode='edge')
  done, at = t > 0, jnp.maximum(t - 1, 0)
  by_image = lambda values: values[at][:, None, None]
  size = by_image(jax.lax.stop_gradient(weights.size)[:, None])
  x = jnp.clip((even - _mean_around(even)) / size, -CLIP, CLIP)
  x = _blocks(x)
  for i, (kernel, bias, places) in enumerate(
      zip(weights.kernels, weights.biases, weights.places, strict=True)):
    x = _convolved(x, KERNEL * kernel)
    repeats = [-(-n // m) for n, m in zip(x.shape[1:3], places.shape[:2], strict=True)]
    places = jnp.tile(places, (*repeats, 1))[: x.shape[1], : x.shape[2]]
    x = x + BIAS * (by_image(bias) + places[None])
    if i < len(weights.gains):
      x = jax.nn.relu(x) * jnp.exp(BIAS * by_image(weights.gains[i]))
  written = _pixels(x)[:, :height, :width]
  return r + OUTPUT_SCALE * size * written * done[:, None, None, None].astype(r.dtype)


def _convolved(x, kernel):
  """[B, h, w, I], [3, 3, I, O] -> [B, h, w, O]; beyond its edges x goes on as it ends."""
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='edge')
  grid = layers.grid(x.shape[1:3], 3, x.dtype)
  y = grid.convolve([(grid.transform(grid.enter(x)), grid.prepare(kernel))])
  return grid.leave(y)[:, 1:-1, 1:-1]


def _mean_around(x):
  """The mean of the (2 RADIUS + 1)^2 pixels around each."""
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
  """Undoes `_blocks`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, BLOCK, BLOCK, c // BLOCK**2).swapaxes(2, 3)
  return x.reshape(b, h * BLOCK, w * BLOCK, c // BLOCK**2)

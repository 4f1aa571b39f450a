"""Number of multiplications of a training step."""

import functools
import math

from conv_draw.errors import UserError

SHAPES = {
    'digits': (8, 8, 1), 'photos': (32, 32, 3), 'cifar10': (32, 32, 3), 'omniglot': (28, 28, 1),
    'imagenet32': (32, 32, 3), 'imagenet64': (64, 64, 3), 'folder': (32, 32, 3)}


def image_shape(config):
  """(H, W, C) of the images of a config's data set."""
  if config.data.name not in SHAPES:
    raise UserError(f'there is no data set {config.data.name!r}: set --config.data.name to one of '
                    + ', '.join(SHAPES))
  return SHAPES[config.data.name]


def multiplications(config, shape):
  """Multiply-adds of the forward pass of one image, counted as direct convolutions."""
  m = config.model
  of_draw = _recurrence(config, shape) if m.steps else 0
  if m.kind != 'local':
    return of_draw
  return of_draw + pixels_scored(config, shape) * _local_pixel(config, shape)


def pixels_scored(config, shape):
  """Pixels of an image on which a training step trains the local autoregressive model."""
  return config.local.pixels or shape[0] * shape[1]


def _local_pixel(config, shape):
  """Multiply-adds of one pixel in the network of the local autoregressive model."""
  import jax  # the programs set variables that JAX reads when it is imported
  import jax.numpy as jnp

  from conv_draw.autoregressive import local_pixels
  from conv_draw.build import from_config

  head = from_config(config, shape, 256).head
  image = jax.ShapeDtypeStruct((1, 1, 1, shape[2]), jnp.float32)
  numbers = jax.ShapeDtypeStruct((1, 1, 1, head.canvas_channels), jnp.float32)
  view = local_pixels.View(image, numbers) if head.canvas_channels else None
  params = jax.eval_shape(
      functools.partial(head.init, method='cost'), jax.random.key(0), image, view)
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params) if len(x.shape) == 2)


def _recurrence(config, shape):
  """Multiply-adds of convolutional DRAW, or of the transform codec with its decoder."""
  m, (height, width, c) = config.model, shape
  f, z, progressive = m.features, m.latents, m.kind == 'progressive'
  r = c * (2 if m.likelihood == 'gaussian' and not progressive else 1)
  cells = -(-height // m.stride) * -(-width // m.stride)
  side = m.kernel if m.stride <= 2 else 2 * m.stride + 1  # as in `ConvDraw`
  decoder = m.kernel**2 * (4 * f * f + f * 2 * z)
  if progressive:
    side = config.progressive.image_kernel or 2 * m.stride + 1
    decoder += m.kernel**2 * 4 * f * 2 * z + side**2 * 5 * f * c
    return cells * m.steps * (decoder + 2 * m.stride**2 * c * z)
  decoder += m.kernel**2 * 4 * f * z + side**2 * (4 * f * r + f * r)
  encoder = m.kernel**2 * (4 * f * 2 * f + f * 2 * z) + side**2 * 4 * f * c
  return cells * (m.steps * (encoder + decoder) + side**2 * c * 4 * f)

"""The model that a configuration describes: convolutional DRAW, or what it is compared with."""

import jax.numpy as jnp

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.local_pixels import LocalPixels
from conv_draw.model import layers, pixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.vae import Vae


def from_config(config, image_shape, grey_levels):
  """The `ConvDraw`, `Vae` or `LocalDraw` that `config.model` describes.

  Args:
    config: as experiments/default.py.
    image_shape: (H, W, C) of the data set's images; fully connected layers fit no other size.
    grey_levels: values of a pixel.
  Raises:
    ValueError: there is no such kind of model or likelihood.
  """
  m = config.model
  prefixes = config.objective.progressive > 0
  if m.likelihood != 'local':
    return _draw(m, m.likelihood, image_shape, grey_levels, prefixes)
  draw, channels = None, image_shape[-1]
  if m.kind == 'vae' or m.steps:
    draw = _draw(m, m.local_canvas, image_shape, grey_levels)
  if m.local_numbers != 'real':
    return LocalDraw(draw, IntegerPixels(
        channels, m.local_horizon, m.local_features, m.local_layers, m.mixtures,
        m.local_numbers == 'whole', compute_dtype=jnp.dtype(m.local_dtype),
        canvas=draw is not None))
  kind = 'bernoulli' if m.local_canvas == 'bernoulli' else 'logistic_mixture'
  head = LocalPixels(
      pixels.from_name(kind, grey_levels, m.mixtures), channels, m.local_horizon, m.local_features,
      m.local_layers, jnp.dtype(m.local_dtype),
      canvas_channels=draw.pixels.canvas_channels(channels) if draw else 0,
      position=m.local_position)
  return LocalDraw(draw, head)


def _draw(m, likelihood, image_shape, grey_levels, prefixes=False):
  """The model with latents of those settings `config.model`, for a pixel distribution."""
  upper = zip(m.upper_features, m.upper_latents, m.upper_strides, strict=True)
  shared = dict(
      channels=image_shape[-1],
      pixels=pixels.from_name(likelihood, grey_levels, m.mixtures),
      features=m.features,
      latents=m.latents,
      stride=m.stride,
      upper=tuple(layers.Layer(*numbers) for numbers in upper),
      kernel=m.kernel,
      image_size=tuple(image_shape[:2]),
      compute_dtype=jnp.dtype(m.compute_dtype),
  )
  if m.kind == 'draw':
    return ConvDraw(
        **shared, iterations=m.steps, posterior=m.posterior, remat=m.remat,
        image_kernel=m.image_kernel, bin_width=m.bin_width, gain=m.gain, price=m.price,
        linear=m.linear_paths, encoder_features=m.encoder_features, restoration=m.restoration,
        prefixes=prefixes)
  if m.kind == 'vae':
    return Vae(**shared, depth=m.depth)
  raise ValueError(f'no model {m.kind!r}: there are "draw" and "vae"')

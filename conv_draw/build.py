"""The model that a configuration describes: convolutional DRAW, or what it is compared with."""

import jax.numpy as jnp

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.local_pixels import LocalPixels
from conv_draw.model import layers, pixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.vae import Vae

ENCODER_FEATURES = 16  # of the published progressive models, whose encoder is without effect


def from_config(config, image_shape, grey_levels):
  """The `ConvDraw`, `Vae` or `LocalDraw` that `config.model` describes.

  Args:
    config: as experiments/default.py, with the section of its `model.kind`.
    image_shape: (H, W, C) of the data set's images; fully connected layers fit no other size.
    grey_levels: values of a pixel.
  Raises:
    ValueError: there is no such kind of model or likelihood.
  """
  m, channels = config.model, image_shape[-1]
  if m.kind == 'progressive':
    p = config.progressive
    return _draw(
        m, 'squared_error', image_shape, grey_levels, image_kernel=p.image_kernel, price=p.lmbda,
        linear=True, encoder_features=ENCODER_FEATURES, restoration=p.post_filter, prefixes=True)
  if m.kind != 'local':
    return _draw(m, m.likelihood, image_shape, grey_levels)
  local = config.local
  draw = _draw(m, m.likelihood, image_shape, grey_levels) if m.steps else None
  if local.numbers != 'real':
    return LocalDraw(draw, IntegerPixels(
        channels, local.horizon, local.features, local.layers, local.mixtures,
        local.numbers == 'whole', compute_dtype=jnp.dtype(local.dtype), canvas=draw is not None))
  kind = 'bernoulli' if m.likelihood == 'bernoulli' else 'logistic_mixture'
  head = LocalPixels(
      pixels.from_name(kind, grey_levels, local.mixtures), channels, local.horizon, local.features,
      local.layers, jnp.dtype(local.dtype),
      canvas_channels=draw.pixels.canvas_channels(channels) if draw else 0,
      position=local.position)
  return LocalDraw(draw, head)


def _draw(m, likelihood, image_shape, grey_levels, **progressive):
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
  if m.kind == 'vae':
    return Vae(**shared, depth=m.depth)
  if m.kind not in ('draw', 'local', 'progressive'):
    raise ValueError(
        f'no model {m.kind!r}: there are "draw", "vae", "local" and "progressive"')
  return ConvDraw(
      **shared, iterations=m.steps, posterior=m.posterior, remat=m.remat, bin_width=m.bin_width,
      gain=m.gain, **progressive)

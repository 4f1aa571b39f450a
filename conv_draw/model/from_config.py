"""The model that a configuration describes: convolutional DRAW, or what it is compared with."""

import jax.numpy as jnp

from conv_draw.model import layers, pixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.vae import Vae


def from_config(config, image_shape, grey_levels):
  """The `ConvDraw` or `Vae` that `config.model` describes.

  Args:
    config: as experiments/default.py.
    image_shape: (H, W, C) of the data set's images; fully connected layers fit no other size.
    grey_levels: values of a pixel.
  Raises:
    ValueError: there is no such kind of model or likelihood.
  """
  m = config.model
  upper = zip(m.upper_features, m.upper_latents, m.upper_strides, strict=True)
  shared = dict(
      channels=image_shape[-1],
      pixels=pixels.from_name(m.likelihood, grey_levels, m.mixtures),
      features=m.features,
      latents=m.latents,
      stride=m.stride,
      upper=tuple(layers.Layer(*numbers) for numbers in upper),
      kernel=m.kernel,
      image_size=tuple(image_shape[:2]),
      compute_dtype=jnp.dtype(m.compute_dtype),
  )
  if m.kind == 'draw':
    return ConvDraw(**shared, iterations=m.steps, posterior=m.posterior, remat=m.remat)
  if m.kind == 'vae':
    return Vae(**shared, depth=m.depth)
  raise ValueError(f'no model {m.kind!r}: there are "draw" and "vae"')

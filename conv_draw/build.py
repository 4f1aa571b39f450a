"""The model, the loss and the initial values of parameters that a configuration describes.

No other module knows all kinds of models.
"""

from typing import Any

import jax
import jax.numpy as jnp

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.local_pixels import LocalPixels
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.model import layers, objective
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.latents import Bins
from conv_draw.model.pixels import BernoulliPixels, GaussianPixels
from conv_draw.model.vae import Vae
from conv_draw.progressive import initialisation
from conv_draw.progressive import objective as multi_rate
from conv_draw.progressive.model import Progressive
from conv_draw.progressive.pixels import SquaredErrorPixels

FILTERED_PER_IMAGE = 2  # truncation points of an image that a training step post-filters


def from_config(config, image_shape, grey_levels):
  """The model that `config.model` describes.

  Args:
    config: as of experiments/default.py, with the section of its `model.kind`.
    image_shape: (H, W, C) of the data set's images; fully connected layers fit no other size.
    grey_levels: number of values of a pixel.
  """
  m, channels = config.model, image_shape[-1]
  if m.kind == 'progressive':
    p = config.progressive
    return Progressive(
        channels, m.steps, m.features, m.latents, m.kernel, m.stride, p.image_kernel, p.lmbda,
        p.post_filter, jnp.dtype(m.compute_dtype), m.remat, grey_levels)
  if m.kind != 'local':
    return _draw(m, image_shape, grey_levels)
  local = config.local
  if local.numbers != 'real':
    return LocalDraw(None, IntegerPixels(
        channels, local.horizon, local.features, local.layers, local.mixtures,
        local.numbers == 'whole', compute_dtype=jnp.dtype(local.dtype)))
  draw = _draw(m, image_shape, grey_levels) if m.steps else None
  kind = 'bernoulli' if m.likelihood == 'bernoulli' else 'logistic_mixture'
  head = LocalPixels(
      _pixels(kind, grey_levels, local.mixtures), channels, local.horizon, local.features,
      local.layers, jnp.dtype(local.dtype),
      canvas_channels=draw.pixels.canvas_channels(channels) if draw else 0,
      position=local.position)
  return LocalDraw(draw, head)


def _draw(m, image_shape, grey_levels):
  """The `ConvDraw` or `Vae` of settings `config.model`."""
  upper = zip(m.upper_features, m.upper_latents, m.upper_strides, strict=True)
  shared = dict(
      channels=image_shape[-1],
      pixels=_pixels(m.likelihood, grey_levels, m.mixtures),
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
  bins = Bins(m.bin_width or Bins().width, m.gain)
  return ConvDraw(
      **shared, iterations=m.steps, posterior=m.posterior, bins=bins, remat=m.remat)


def _pixels(likelihood, grey_levels, mixtures):
  """The pixel distribution of that name, `config.model.likelihood`."""
  if likelihood == 'logistic_mixture':
    return LogisticMixturePixels(grey_levels, mixtures)
  return {'gaussian': GaussianPixels, 'bernoulli': BernoulliPixels,
          'squared_error': SquaredErrorPixels}[likelihood](grey_levels)


def while_training(config) -> dict[str, int]:
  """The arguments of `apply` in a training step, besides keys and images."""
  if config.model.kind == 'local':
    return {'places': config.local.pixels}
  if config.model.kind == 'progressive':
    return {'some': FILTERED_PER_IMAGE}
  return {}


def loss(config, terms: objective.Elbo, inference: Any, step: jax.Array,
         axis_name: str | None) -> jax.Array:
  """The training loss: a scalar in nats per image, of this device's part of the batch.

  Args:
    config: the configuration.
    terms: of `objective.elbo`, of B * `objective.samples` entries.
    inference: the result of the model.
    step: number of updates done, for the warm-up of the KL weight.
    axis_name: of the devices.
  """
  o = config.objective
  if config.model.kind == 'progressive':
    return multi_rate.multi_rate(inference, _betas(config), axis_name).mean()
  if o.kl_warmup_steps:
    weight = jnp.minimum(1.0, (step + 1) / o.kl_warmup_steps)
    terms = terms._replace(kl_nats=weight * terms.kl_nats)
  bound = objective.bound(terms, o.beta, o.samples, o.bound)
  if config.model.kind == 'local' and config.local.auxiliary:
    bound = bound + config.local.auxiliary * inference.canvas_nats.reshape(-1, o.samples).mean(1)
  return bound.mean()


def initial_values(config, images) -> dict[str, Any]:
  """{name: float32 array} of a progressive model's parameters with initial values from the data.

  Args:
    config: the configuration.
    images: `data.sets.Images` to train on.
  """
  m, betas, found = config.model, _betas(config), {}
  if config.progressive.post_filter:
    found['restoration_size'] = initialisation.filter_scale(betas)
  if not config.train.start_from:
    found |= initialisation.of_images(images, m.stride, betas, m.latents, config.train.seed)
  return found


def _betas(config):
  """beta_t of the multi-rate loss, [T]."""
  return multi_rate.geometric_betas(
      config.progressive.first_beta, config.objective.beta, config.model.steps)

"""A small progressive model, and pictures for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.progressive import initialisation, objective, post_filter
from conv_draw.progressive.model import Progressive

STRIDE, T, Z = 4, 7, 6
SIZE = (14, 18)  # cells at the edges are cut
KEY = jax.random.key(1)


@functools.cache
def photos(count=40):
  """Smooth colours with some edges, [count, *SIZE, 3]."""
  rng = np.random.default_rng(0)
  steps = rng.normal(0, 6, (count, *SIZE, 1)) + rng.normal(0, 1.5, (count, *SIZE, 3))
  return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


@functools.cache
def begun():
  """(model, parameters whose transforms are initialised for `photos`)."""
  model = Progressive(
      channels=3, iterations=T, features=4, latents=Z, kernel=3, stride=STRIDE,
      image_kernel=STRIDE, filter_features=4)
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, photos()[:1])
  betas = objective.geometric_betas(1e-3, 0.3, T)
  parts = initialisation.transforms(initialisation.cells(photos(), STRIDE), betas, Z)
  return model, {'params': {**params['params'], **jax.tree.map(jnp.float32, parts)}}


@functools.cache
def stirred():
  """`begun`, but with priors that read all that they can read."""
  model, params = begun()
  keys = iter(jax.random.split(jax.random.key(2), 9))
  change = {
      name: 0.1 * jax.random.normal(next(keys), params['params'][name].shape)
      for name in ('linear_beside', 'linear_context', 'linear_prior', 'prior')}
  last = f'restoration_kernel_{post_filter.KERNELS}'
  change[last] = 0.005 * jax.random.normal(next(keys), params['params'][last].shape)
  return model, {'params': {**params['params'], **change}}


@functools.cache
def inferred(**change):
  """`Inference` of all photos by the model `begun`, with those settings changed."""
  model, params = begun()
  return jax.jit(model.clone(**change).apply)(params, KEY, photos())

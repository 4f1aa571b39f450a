"""The noise that latents are drawn with: every image's from a key of its own.

So what is drawn for an image does not depend on the batch around it.
"""

import functools

import jax
import jax.numpy as jnp

from conv_draw.model import arguments


def image_keys(key, count):
  """[count] keys: `key` itself if it is one per image already, else folded with 0..count-1."""
  if arguments.keys(key, count).ndim:
    return key
  return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(count))


def standard_normal(keys, number, shape):
  """[B, *shape] draws of N(0, 1), float32: number `number` of those that a key has.

  Args:
    keys: [B], one per image.
    number: int, folded into each key: another number, other noise.
    shape: of one image's noise.
  """
  draw = lambda key: jax.random.normal(jax.random.fold_in(key, number), shape)
  return jax.vmap(draw)(keys)

"""The random numbers of latents: each image has a key of its own.

The latents of an image therefore do not depend on the batch around it.

All random numbers of an image come from `jax.random.fold_in(its key, number)`. This table lists all
these numbers. With one key, no two purposes share a number. Of a model of T iterations:

  0 .. T-1   the latents of iteration t, in the layer nearest the pixels
  T          `binarisation`
  T + i      `layer` i = 1, 2, ..., the layers above
  T + 1 + j  `sample` j = 0, 1, ..., a key that replaces the image's where training draws several
             samples of an image's latents: no layer then draws from the image's own key

and, above any T, the constants below.
"""

import functools

import jax
import jax.numpy as jnp

from conv_draw.model import arguments

DITHER = 2**20  # + t: the dither of the latents of iteration t
BEYOND = 2**21  # + i: purposes of the extensions of the paper's model, each with its own i


def binarisation(iterations):
  """The number of the draw that binarises grey values, of a model of T `iterations`."""
  return iterations


def layer(iterations, i):
  """The number of layer i = 1, 2, ... above the one nearest the pixels."""
  return iterations + i


def sample(iterations, j):
  """The number of sample j = 0, 1, ... of an image's latents, if there are several."""
  return iterations + 1 + j


def image_keys(key, count):
  """[count] keys: `key` itself if it holds one per image, else `key` folded with 0..count-1."""
  if arguments.keys(key, count).ndim:
    return key
  return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(count))


def standard_normal(keys, number, shape):
  """[B, *shape] draws of N(0, 1), float32.

  Args:
    keys: [B], one per image.
    number: int, folded into each key.
    shape: of one image's noise.
  """
  draw = lambda key: jax.random.normal(jax.random.fold_in(key, number), shape)
  return jax.vmap(draw)(keys)

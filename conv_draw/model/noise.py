"""The noise that latents are drawn with: every image's from a key of its own.

So what is drawn for an image does not depend on the batch around it.

All random numbers of an image come from `jax.random.fold_in(its key, number)`, and this is the one
table of these numbers: no two purposes share one. Of a model of T iterations

  0 .. T-1   the latents of iteration t, in the layer nearest the pixels
  T          `binarisation`
  T + i      `layer` i = 1, 2, ..., the layers above
  T + 1 + j  `sample` j = 0, 1, ..., a key that takes the image's place where training draws the
             latents of an image several times: no layer then draws from the image's own key

and, beyond any T, the constants below.
"""

import functools

import jax
import jax.numpy as jnp

from conv_draw.model import arguments

DITHER = 2**20  # + t: the dither of the latents of iteration t
BEYOND = 2**21  # + i: of the models that are built on this one, each with its own i


def binarisation(iterations):
  """The number of the draw that makes grey values binary, of a model of T `iterations`."""
  return iterations


def layer(iterations, i):
  """The number of layer i = 1, 2, ... above the one nearest the pixels."""
  return iterations + i


def sample(iterations, j):
  """The number of draw j = 0, 1, ... of an image's latents, if there are several."""
  return iterations + 1 + j


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

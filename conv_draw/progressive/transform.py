"""The transform: cells of s x s pixels to coefficients, and back.

Of a cell, with e the error eps_t of its D = s s C values and r their means on the canvas, both in
grey levels, and for each iteration and latent map a quantisation step w in grey levels:

  mean of q_t  = (e A_t) / w                 the analysis transform
  r           += (w z_t) B_t                 the synthesis transform, before the decoder reads r (6)

A_t and B_t begin as principal components of the data's cells (`initialisation`). The first
iterations are interlaced (`interlaced`): what comes first is much alike in cells that are
neighbours.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

GREY = 255.0  # grey levels: 1 of a pixel
# Scale of the transforms' parameters, so that an optimiser's steps, alike for all, suit them.
MATRIX = 0.02
INTERLACED = 3  # iterations that share the cells between them
# How much of a cell's synthesis the cells around it show too, until their own iteration: by pass.
INTERPOLATION = np.array([
    [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]],  # between others: the mean of these
    [[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]],
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]], np.float32)


def analyse(error: jax.Array, matrix: jax.Array, step: jax.Array) -> jax.Array:
  """[B, h, w, Z] the means of q_t, in bins.

  Args:
    error: [B, h, w, D] eps_t in [0, 1].
    matrix: [D, Z] A_t / MATRIX.
    step: [Z] quantisation steps in grey levels.
  """
  return jnp.matmul(error, matrix * (MATRIX * GREY / step)[None])


def synthesise(canvas: jax.Array, z: jax.Array, t: ArrayLike, matrix: jax.Array, step: jax.Array):
  """The canvas [B, h, w, s s, C] with the coefficients z_t added.

  Args:
    z: [B, h, w, Z] z_t.
    t: the iteration, 0..T-1.
    matrix: [Z, D] B_t / MATRIX.
    step: [Z] quantisation steps in grey levels.
  """
  painted = jnp.matmul(_interpolated(z, t), matrix * (MATRIX / GREY * step)[:, None])
  return canvas + painted.reshape(canvas.shape)


def _interpolated(z, t):
  """z_t [B, h, w, Z], in the first iterations also in the cells of later interlaced passes."""
  size = h, w = z.shape[1:3]
  weights = jnp.asarray(INTERPOLATION)[jnp.minimum(t, INTERLACED - 1)]

  def around(maps, weights):
    maps = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(weights[i, j] * maps[:, i : i + h, j : j + w] for i in range(3) for j in range(3))

  # At the edge one of the two neighbours exists, or one of the four.
  share = around(np.float32(interlaced(0, size))[None], INTERPOLATION[0])
  return around(z, weights) / jnp.where(t == 0, share, 1)


def interlaced(t: ArrayLike, size: tuple[int, int]):
  """bool [h, w, 1]: the cells that iteration t codes.

  The first iteration codes every other cell of every other row, the second one those in the middle
  between, the third one the rest; all later ones code all cells.
  """
  rows, columns = (n % 2 for n in np.indices(size))
  number = np.where(rows == columns, rows, INTERLACED - 1)[..., None]
  return (number == t) | (t >= INTERLACED)


def active(t: ArrayLike, size: tuple[int, int], distortion_weight):
  """bool [h, w, Z]: the active mask, the latents that iteration t codes; the others are 0.

  Args:
    distortion_weight: [Z] of iteration t, 0 of maps that it does not have.
  """
  return interlaced(t, size) & (distortion_weight > 0)[None, None]

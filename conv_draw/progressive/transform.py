"""The analysis transform, from cells of s x s pixels to coefficients, and the synthesis transform.

Of a cell, e is the error eps_t of its D = s s C values and r is their mean on the canvas, both in
grey levels; w are the quantisation steps of an iteration's latent maps, in grey levels:

  mean of q_t  = (e A_t) / w                 the analysis transform
  r           += (w z_t) B_t                 the synthesis transform, before the decoder reads r (6)

A_t and B_t begin as principal components (KLT) of the data's cells (`initialisation`). The first
iterations code interlaced passes of the cells (`interlaced`), because neighbouring cells have
similar first coefficients.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

GREY = 255.0  # grey levels in the range [0, 1] of a pixel
MATRIX = 0.02  # scale of the transforms' parameters: one learning rate then suits all parameters
INTERLACED = 3  # interlaced passes: iterations that each code a part of the cells
# Weights with which the 3 x 3 cells around a coded cell show its latents, by interlaced pass.
INTERPOLATION = np.array([
    [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]],  # bilinear
    [[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]],
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]], np.float32)


def analyse(error: jax.Array, matrix: jax.Array, step: jax.Array) -> jax.Array:
  """The means of q_t [B, h, w, Z], in bins.

  Args:
    error: [B, h, w, D] eps_t, of pixels in [0, 1].
    matrix: [D, Z] A_t / MATRIX.
    step: [Z] quantisation steps in grey levels.
  """
  return jnp.matmul(error, matrix * (MATRIX * GREY / step)[None])


def synthesise(canvas: jax.Array, z: jax.Array, t: ArrayLike, matrix: jax.Array, step: jax.Array):
  """The canvas [B, h, w, s s, C] plus the synthesis of z_t.

  Args:
    canvas: [B, h, w, s s, C], of pixels in [0, 1].
    z: [B, h, w, Z] z_t.
    t: the iteration, 0..T-1.
    matrix: [Z, D] B_t / MATRIX.
    step: [Z] quantisation steps in grey levels.
  """
  added = jnp.matmul(_interpolated(z, t), matrix * (MATRIX / GREY * step)[:, None])
  return canvas + added.reshape(canvas.shape)


def _interpolated(z, t):
  """z_t [B, h, w, Z], interpolated to the cells of later interlaced passes."""
  size = h, w = z.shape[1:3]
  weights = jnp.asarray(INTERPOLATION)[jnp.minimum(t, INTERLACED - 1)]

  def around(maps, weights):
    maps = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(weights[i, j] * maps[:, i : i + h, j : j + w] for i in range(3) for j in range(3))

  # At the edges of an image some of the interpolated cells do not exist.
  share = around(np.float32(interlaced(0, size))[None], INTERPOLATION[0])
  return around(z, weights) / jnp.where(t == 0, share, 1)


def interlaced(t: ArrayLike, size: tuple[int, int]):
  """bool [h, w, 1]: the cells that iteration t codes.

  The first iteration codes every other cell of every other row, the second the cells diagonally
  between, the third the rest; later iterations code all cells.
  """
  rows, columns = (n % 2 for n in np.indices(size))
  number = np.where(rows == columns, rows, INTERLACED - 1)[..., None]
  return (number == t) | (t >= INTERLACED)


def active(t: ArrayLike, size: tuple[int, int], distortion_weight):
  """The active mask, bool [h, w, Z]: the latents that iteration t codes. The others are 0.

  Args:
    t: the iteration, 0..T-1.
    size: (h, w).
    distortion_weight: [Z] of iteration t, 0 for unused maps.
  """
  return interlaced(t, size) & (distortion_weight > 0)[None, None]

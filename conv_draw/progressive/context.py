"""The context of the entropy model: the inputs of p_t besides h^d_{t-1}.

p_t depends on the stored part of the same transform coefficient (`ContextState`), in this cell and
in the cells around, and on the activity here, around, and in the whole image. Each iteration codes
its cells as a checkerboard in two passes: the prior of the non-anchor cells also depends on z_t of
the adjacent anchor cells.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.model.latents import DiagonalGaussian

# Scales of parameters, chosen so that one learning rate suits all parameters.
CONTEXT_SCALE = 3.0  # of the weights of the context features
NEIGHBOURS_SCALE = 0.3  # of the weights of anchor cells in the prior of non-anchor cells
FEATURES = 7  # context features of a latent: `with_context`
CLIP = 4.0  # of latents in bins, as the network reads them: `features`
CODING_PASSES = 2
DECAY = 0.7  # of the activity, per iteration
LEAST_SIGMA = 0.15  # scale lower bound of a prior, in bins
INACTIVE = -6.0  # log sigma, in bins, of the prior of inactive latents, whose mean is 0


class ContextState(NamedTuple):
  """The context state of the entropy model, a summary of the latents of earlier iterations.

  `coefficients` are integers times quantisation steps: the same on every machine.
  """

  coefficients: jax.Array  # [B, h, w, D] sums of step * z by coefficient, in grey levels
  activity: jax.Array  # [B, h, w, 1] decayed sum of |z| over iterations


def initial_context(batch: int, size: tuple[int, int], cell: int) -> ContextState:
  """The state before the first iteration, of D = `cell` coefficients."""
  return ContextState(jnp.zeros((batch, *size, cell)), jnp.zeros((batch, *size, 1)))


def update_context(state: ContextState, z: jax.Array, coefficients: jax.Array,
                   step: jax.Array) -> ContextState:
  """The state after z_t [B, h, w, Z], of coefficients int32 [Z] and quantisation steps [Z]."""
  z = jax.lax.stop_gradient(z)  # z_t gets no gradient from later priors
  added = jnp.matmul(z * _of_maps(step), _choice(state, coefficients), precision='highest')
  return ContextState(
      state.coefficients + added,
      DECAY * state.activity + abs(z).sum(-1, keepdims=True))


def _of_maps(values):
  """[Z] -> [1, 1, 1, Z], to broadcast over maps [B, h, w, Z]."""
  return values[None, None, None]


def _choice(state, coefficients):
  """[Z, D] one-hot: exact in products, which are faster than gather and scatter."""
  return jax.nn.one_hot(coefficients, state.coefficients.shape[-1])


def with_context(prior: DiagonalGaussian, state: ContextState, weights: jax.Array,
                 coefficients: jax.Array, step: jax.Array) -> DiagonalGaussian:
  """`prior`, conditioned on the context of its latents and of the cells around.

  Args:
    prior: of [B, h, w, Z], in bins.
    state: the context state.
    weights: [FEATURES, Z] of iteration t: five for log sigma, then two for the mean.
    coefficients: int32 [Z], the transform coefficient of each latent map.
    step: [Z] quantisation steps in grey levels.
  """
  stored = jnp.matmul(
      state.coefficients, _choice(state, coefficients).T, precision='highest') / _of_maps(step)
  around = _around(stored)
  rows = CONTEXT_SCALE * weights
  everywhere = state.activity.mean((1, 2), keepdims=True)  # of the whole image
  log_sigma = sum(_of_maps(row) * jnp.log1p(feature) for row, feature in zip(
      rows, (abs(stored), _around(abs(stored)), state.activity, _around(state.activity),
             everywhere), strict=False))
  mean = sum(_of_maps(row) * jnp.clip(feature, -2, 2) for row, feature in zip(
      rows[5:], (stored, around - stored), strict=True))
  return prior._replace(mean=prior.mean + mean, log_sigma=prior.log_sigma + log_sigma)


def _around(maps):
  """The mean of the eight cells around, with 0 outside the image."""
  h, w = maps.shape[1:3]
  padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = padded[:, :h] + padded[:, 1 : h + 1] + padded[:, 2:]
  return (rows[:, :, :w] + rows[:, :, 1 : w + 1] + rows[:, :, 2:] - maps) / 8


def checkerboard(size: tuple[int, int]) -> np.ndarray:
  """bool [2, h, w, 1]: the anchor cells, which are coded first, and the non-anchor cells."""
  rows, columns = np.indices(size)
  white = ((rows + columns) % CODING_PASSES == 1)[..., None]
  return np.stack([~white, white])


def with_neighbours(prior: DiagonalGaussian, z: jax.Array, weights: jax.Array) -> DiagonalGaussian:
  """`prior` of the non-anchor cells, conditioned on the anchor cells.

  Args:
    prior: of [B, h, w, Z], in bins.
    z: [B, h, w, Z] z_t of the anchor cells, 0 elsewhere.
    weights: [8 Z, 2 Z] of iteration t, of the `features` of the four adjacent cells.
  """
  h, w = z.shape[1:3]
  z = jax.lax.stop_gradient(z)  # as in `update_context`
  padded = jnp.pad(features(z), ((0, 0), (1, 1), (1, 1), (0, 0)))
  adjacent = jnp.concatenate([
      padded[:, i : i + h, j : j + w] for i, j in ((0, 1), (1, 0), (1, 2), (2, 1))], -1)
  mean, log_sigma = jnp.split(jnp.matmul(adjacent, NEIGHBOURS_SCALE * weights), 2, -1)
  return prior._replace(mean=prior.mean + mean, log_sigma=prior.log_sigma + log_sigma)


def features(z: jax.Array) -> jax.Array:
  """[B, h, w, 2 Z]: clipped z_t and log(1 + |z_t|), the form in which the network reads z_t."""
  z = jnp.clip(z, -CLIP, CLIP)
  return jnp.concatenate([z, jnp.log1p(abs(z))], -1)


def bounded(prior: DiagonalGaussian, active: jax.Array) -> DiagonalGaussian:
  """`prior` with the scale lower bound; narrow around 0 for latents that are not `active`."""
  log_sigma = jnp.logaddexp(2 * prior.log_sigma, 2 * math.log(LEAST_SIGMA)) / 2
  return prior._replace(
      mean=prior.mean * active.astype(prior.mean.dtype)[None],
      log_sigma=jnp.where(jnp.broadcast_to(active, log_sigma.shape), log_sigma, INACTIVE))

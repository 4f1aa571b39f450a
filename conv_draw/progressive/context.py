"""The context of the entropy model: what p_t reads besides h^d_{t-1}.

It reads what has been stored of the same transform coefficient (`ContextState`) here and in the
cells around; and within an iteration, whose cells are a checkerboard coded in two passes, the
non-anchor cells read z_t of the anchor cells that touch them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.model.latents import DiagonalGaussian

# Scales so that an optimiser's steps, alike for all parameters, suit these.
CONTEXT = 3.0  # of what the prior reads of `ContextState`
NEIGHBOURS = 0.3  # of what the prior of non-anchor cells reads of anchor cells
FEATURES = 7  # of a latent's context: `with_context`
LARGEST_FEATURE = 4.0  # of latents as the network reads them, in bins: `features`
CODING_PASSES = 2
DECAY = 0.7  # of the activity, at every iteration
LEAST_SIGMA = 0.15  # scale lower bound of a prior, in bins
INACTIVE = -6.0  # log sigma of the prior of inactive latents: in bins, they are surely 0


class ContextState(NamedTuple):
  """What the latents so far say of the next ones.

  It consists of whole numbers times quantisation steps, and so is the same wherever it is computed.
  """

  coefficients: jax.Array  # [B, h, w, D] sums of w z by coefficient, in grey levels
  activity: jax.Array  # [B, h, w, 1] of |z|, the last iterations counting most


def initial_context(batch: int, size: tuple[int, int], cell: int) -> ContextState:
  """Before the first iteration, of D = `cell` coefficients."""
  return ContextState(jnp.zeros((batch, *size, cell)), jnp.zeros((batch, *size, 1)))


def update_context(state: ContextState, z: jax.Array, coefficients: jax.Array,
                   step: jax.Array) -> ContextState:
  """With z_t [B, h, w, Z], of coefficients int32 [Z] in quantisation steps [Z]."""
  z = jax.lax.stop_gradient(z)  # no gradient of later priors reaches z_t
  added = jnp.matmul(z * _of_maps(step), _choice(state, coefficients), precision='highest')
  return ContextState(
      state.coefficients + added,
      DECAY * state.activity + abs(z).sum(-1, keepdims=True))


def _of_maps(values):
  """[Z] -> [1, 1, 1, Z], one for each of maps [B, h, w, Z]."""
  return values[None, None, None]


def _choice(state, coefficients):
  """[Z, D] of 0 and 1, exact in products: faster to multiply by than to gather and scatter."""
  return jax.nn.one_hot(coefficients, state.coefficients.shape[-1])


def with_context(prior: DiagonalGaussian, state: ContextState, weights: jax.Array,
                 coefficients: jax.Array, step: jax.Array) -> DiagonalGaussian:
  """A prior with the context of its latents and of the cells around.

  Args:
    weights: [FEATURES, Z], of iteration t: of log sigma five, of the mean two.
    coefficients: int32 [Z], which the latents are of.
    step: [Z] quantisation steps in grey levels.
  """
  stored = jnp.matmul(
      state.coefficients, _choice(state, coefficients).T, precision='highest') / _of_maps(step)
  around = _around(stored)
  rows = CONTEXT * weights
  everywhere = state.activity.mean((1, 2), keepdims=True)  # of the whole image
  log_sigma = sum(_of_maps(row) * jnp.log1p(feature) for row, feature in zip(
      rows, (abs(stored), _around(abs(stored)), state.activity, _around(state.activity),
             everywhere), strict=False))
  mean = sum(_of_maps(row) * jnp.clip(feature, -2, 2) for row, feature in zip(
      rows[5:], (stored, around - stored), strict=True))
  return prior._replace(mean=prior.mean + mean, log_sigma=prior.log_sigma + log_sigma)


def _around(maps):
  """The mean of the eight cells around, those outside being 0."""
  h, w = maps.shape[1:3]
  padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = padded[:, :h] + padded[:, 1 : h + 1] + padded[:, 2:]
  return (rows[:, :, :w] + rows[:, :, 1 : w + 1] + rows[:, :, 2:] - maps) / 8


def checkerboard(size: tuple[int, int]) -> np.ndarray:
  """bool [2, h, w, 1]: the anchor cells, coded first, and the non-anchor cells."""
  rows, columns = np.indices(size)
  white = ((rows + columns) % CODING_PASSES == 1)[..., None]
  return np.stack([~white, white])


def with_neighbours(prior: DiagonalGaussian, z: jax.Array, weights: jax.Array) -> DiagonalGaussian:
  """The prior of the non-anchor cells, given the anchor cells.

  Args:
    z: [B, h, w, Z] z_t of the anchor cells, 0 elsewhere.
    weights: [8 Z, 2 Z], of iteration t: of the four cells that touch one, their `features`.
  """
  h, w = z.shape[1:3]
  z = jax.lax.stop_gradient(z)  # as in `update_context`
  padded = jnp.pad(features(z), ((0, 0), (1, 1), (1, 1), (0, 0)))
  touching = jnp.concatenate([
      padded[:, i : i + h, j : j + w] for i, j in ((0, 1), (1, 0), (1, 2), (2, 1))], -1)
  mean, log_sigma = jnp.split(jnp.matmul(touching, NEIGHBOURS * weights), 2, -1)
  return prior._replace(mean=prior.mean + mean, log_sigma=prior.log_sigma + log_sigma)


def features(z: jax.Array) -> jax.Array:
  """[B, h, w, 2 Z]: z_t, clipped, and log(1 + |z_t|), as the network reads them."""
  z = jnp.clip(z, -LARGEST_FEATURE, LARGEST_FEATURE)
  return jnp.concatenate([z, jnp.log1p(abs(z))], -1)


def bounded(prior: DiagonalGaussian, active: jax.Array) -> DiagonalGaussian:
  """A prior with the scale lower bound, and surely 0 where latents are not `active`."""
  log_sigma = jnp.logaddexp(2 * prior.log_sigma, 2 * math.log(LEAST_SIGMA)) / 2
  return prior._replace(
      mean=prior.mean * active.astype(prior.mean.dtype)[None],
      log_sigma=jnp.where(jnp.broadcast_to(active, log_sigma.shape), log_sigma, INACTIVE))

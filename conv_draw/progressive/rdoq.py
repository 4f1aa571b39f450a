"""Rate-distortion-optimised quantisation (RDOQ) of latents in bins, one latent at a time."""

import jax
import jax.numpy as jnp

from conv_draw.model.latents import (
    DiagonalGaussian,
    QuantisedPosterior,
    log_difference,
    log_tail,
)


def quantise(q: QuantisedPosterior, p: DiagonalGaussian, weight: jax.Array) -> jax.Array:
  """z_t: the middles of the bins (`best_bin`) of the means of q under the prior p.

  No gradient passes: it would push latents that were quantised to zero away from zero, or, from the
  nats alone, shrink every latent.

  Args:
    q, p: of [B, h, w, Z].
    weight: the distortion weight, broadcastable to them.
  """
  mean, width, p = jax.lax.stop_gradient((q.mean, q.width, p))
  log_width = jax.lax.broadcast_to_rank(jnp.log(width), mean.ndim)
  width = jax.lax.broadcast_to_rank(width, mean.ndim)
  scaled = DiagonalGaussian(p.mean / width, p.log_sigma - log_width)
  return width * best_bin(mean / width, scaled, weight)


def best_bin(position: jax.Array, p: DiagonalGaussian, weight: jax.Array) -> jax.Array:
  """The bin of width 1, as a whole number, whose nats and weighted squared error are least.

  Of the nearest one, the next one towards the prior's mean, and the one that this mean is in.

  Args:
    position: of latents, in bins.
    p: the prior, in bins.
    weight: the distortion weight: nats of a squared error of one bin.
  """
  nearest, middle, per_sigma = jnp.round(position), jnp.round(p.mean), jnp.exp(-p.log_sigma)
  sign = jnp.where(nearest < p.mean, -1.0, 1.0)
  away = sign * (nearest - p.mean)  # of the bin's middle from the mean, >= 0
  # The bin and the next one share an edge.
  tails = [log_tail((away + edge) * per_sigma) for edge in (0.5, -0.5, -1.5)]
  from_middle = abs(middle - p.mean)
  edges = [log_tail((from_middle + edge) * per_sigma) for edge in (0.5, -0.5)]
  next_one = nearest - sign * (away > 0.5).astype(sign.dtype)
  chosen, least = nearest, jnp.inf
  for bins, outer, inner in (
      (nearest, *tails[:2]), (next_one, *tails[1:]), (middle, *edges)):
    cost = weight * (bins - position) ** 2 - log_difference(inner, outer)
    chosen, least = jnp.where(cost < least, bins, chosen), jnp.minimum(cost, least)
  return chosen

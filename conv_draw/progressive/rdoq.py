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
  """z_t: the middles of the bins that `best_bin` chooses for the means of q under the prior p.

  No gradient passes. That of the distortion would push latents that were quantised to zero away
  from zero; that of the nats would shrink every latent.

  Args:
    q, p: of shape [B, h, w, Z].
    weight: the distortion weight, broadcastable to them.
  """
  mean, width, p = jax.lax.stop_gradient((q.mean, q.width, p))
  log_width = jax.lax.broadcast_to_rank(jnp.log(width), mean.ndim)
  width = jax.lax.broadcast_to_rank(width, mean.ndim)
  scaled = DiagonalGaussian(p.mean / width, p.log_sigma - log_width)
  return width * best_bin(mean / width, scaled, weight)


def best_bin(position: jax.Array, p: DiagonalGaussian, weight: jax.Array) -> jax.Array:
  """The integer bin, of width 1, with the least sum of nats and weighted squared error.

  The candidates are the nearest bin, the next bin towards the prior's mean, and the mean's own bin.

  Args:
    position: the latents, in bins.
    p: the prior, in bins.
    weight: the distortion weight, nats of a squared error of one bin.
  """
  nearest, middle, per_sigma = jnp.round(position), jnp.round(p.mean), jnp.exp(-p.log_sigma)
  sign = jnp.where(nearest < p.mean, -1.0, 1.0)
  away = sign * (nearest - p.mean)  # distance of the bin's middle from the mean, >= 0
  # The nearest bin and the next bin share an edge.
  tails = [log_tail((away + edge) * per_sigma) for edge in (0.5, -0.5, -1.5)]
  from_middle = abs(middle - p.mean)
  edges = [log_tail((from_middle + edge) * per_sigma) for edge in (0.5, -0.5)]
  next_bin = nearest - sign * (away > 0.5).astype(sign.dtype)
  chosen, least = nearest, jnp.inf
  for bins, outer, inner in (
      (nearest, *tails[:2]), (next_bin, *tails[1:]), (middle, *edges)):
    cost = weight * (bins - position) ** 2 - log_difference(inner, outer)
    chosen, least = jnp.where(cost < least, bins, chosen), jnp.minimum(cost, least)
  return chosen

"""Latent distributions: q_t (3), p_t (4) and KL(q_t | p_t) (5), in nats."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from conv_draw.model import straight_through


class DiagonalGaussian(NamedTuple):
  """q_t (3) or p_t (4): independent Gaussians, `mean` and `log_sigma` of one shape [..., Z]."""

  mean: jax.Array
  log_sigma: jax.Array

  @classmethod
  def split(cls, maps):
    """Reads [..., 2 Z] feature maps as (mean, log sigma), in float32."""
    return cls(*jnp.split(maps.astype(jnp.float32), 2, axis=-1))

  def at(self, noise):
    """The point `noise` standard deviations from the mean: a sample if noise ~ N(0, 1)."""
    return self.mean + jnp.exp(self.log_sigma) * noise

  def log_prob(self, z):
    """log density of z in nats, elementwise."""
    standard = (z - self.mean) * jnp.exp(-self.log_sigma)
    return -0.5 * standard**2 - self.log_sigma - 0.5 * math.log(2 * math.pi)


def kl_divergence(q, p):
  """KL(q | p) (5) of two `DiagonalGaussian`s in nats, elementwise."""
  ratio = jnp.exp(2 * (q.log_sigma - p.log_sigma))
  distance = ((q.mean - p.mean) * jnp.exp(-p.log_sigma)) ** 2
  return p.log_sigma - q.log_sigma + 0.5 * (ratio + distance - 1)


class QuantisedPosterior(NamedTuple):
  """q_t of a width that the map alone decides, so that latents can be coded in bins (section 3).

  Bins are as wide as the uniform distribution of standard deviation sigma: sqrt(12) sigma.
  """

  mean: jax.Array
  log_sigma: jax.Array  # broadcastable to mean
  dithered: bool  # uniform around the mean, or the middle of the bin that the mean is in

  @property
  def width(self):
    """Of the bins, in the shape of `log_sigma`."""
    return math.sqrt(12) * jnp.exp(self.log_sigma)

  @property
  def width_of_mean(self):
    """The same, of the rank of `mean`."""
    return jax.lax.broadcast_to_rank(self.width, self.mean.ndim)

  def at(self, noise):
    """Dithered: uniform around the mean if noise ~ N(0, 1); else the mean, rounded.

    Rounding has the gradient of the identity.
    """
    width = self.width_of_mean
    if self.dithered:
      return self.mean + width * (jax.scipy.special.ndtr(noise) - 0.5)
    return width * straight_through.nearest(self.mean / width)

  def thrifty(self, p, price):
    """The middle of the `thrifty_bin` of a prior p at that price.

    Without a gradient: that a latent was not worth its nats is no error of the mean. If the errors
    that are left so could move it, they would make it larger until it is stored after all; if only
    nats could, smaller until nothing is.
    """
    mean, width, p = jax.lax.stop_gradient((self.mean, self.width, p))
    log_width = jax.lax.broadcast_to_rank(jnp.log(width), mean.ndim)
    width = jax.lax.broadcast_to_rank(width, mean.ndim)
    scaled = DiagonalGaussian(p.mean / width, p.log_sigma - log_width)
    return width * thrifty_bin(mean / width, scaled, price)


def thrifty_bin(position, p, price):
  """Rate-distortion-optimal rounding, one latent at a time: the bin of width 1 that costs least.

  Of the nearest one, the next one towards the prior's mean, and the one that this mean is in.

  Args:
    position: of latents, to be rounded.
    p: `DiagonalGaussian`, the prior.
    price: nats that being off by the width of a bin costs; by less, its square's share of them.
  """
  nearest, middle, per_sigma = jnp.round(position), jnp.round(p.mean), jnp.exp(-p.log_sigma)
  sign = jnp.where(nearest < p.mean, -1.0, 1.0)
  away = sign * (nearest - p.mean)  # of the bin's middle from the mean, >= 0
  # The bin and the next one share an edge.
  tails = [_log_tail((away + edge) * per_sigma) for edge in (0.5, -0.5, -1.5)]
  from_middle = abs(middle - p.mean)
  edges = [_log_tail((from_middle + edge) * per_sigma) for edge in (0.5, -0.5)]
  next_one = nearest - sign * (away > 0.5).astype(sign.dtype)
  chosen, least = nearest, jnp.inf
  for bins, outer, inner in (
      (nearest, *tails[:2]), (next_one, *tails[1:]), (middle, *edges)):
    cost = price * (bins - position) ** 2 - _log_difference(inner, outer)
    chosen, least = jnp.where(cost < least, bins, chosen), jnp.minimum(cost, least)
  return chosen


def log_bin_mass(p, z, width):
  """log of the mass that a `DiagonalGaussian` gives to the bin of that width around z, in nats.

  Elementwise, and exact far out in the tails too. z and width are broadcastable to p.mean.
  """
  centre = abs(z - p.mean)  # in the upper tail, which keeps its precision
  half = jax.lax.broadcast_to_rank(0.5 * jnp.asarray(width), p.mean.ndim)
  per_sigma = jnp.exp(-p.log_sigma)
  return _log_mass((centre - half) * per_sigma, (centre + half) * per_sigma)


@jax.custom_jvp
def _log_mass(lower, upper):
  """log of what N(0, 1) gives to [lower, upper]; lower >= -upper."""
  return _log_difference(_log_tail(lower), _log_tail(upper))


@_log_mass.defjvp
def _log_mass_jvp(primals, tangents):
  """Densities at the edges by the mass between them: in closed form, finite everywhere."""
  lower, upper = primals
  log_mass = _log_mass(lower, upper)
  density = -0.5 * math.log(2 * math.pi) - log_mass
  # Far out the density of the lower edge and the mass are both nothing; their ratio is at most
  # that of the tail, but if the bin is narrow.
  most = jnp.maximum(jnp.log1p(jnp.maximum(lower, 0)), -jnp.log(upper - lower)) + 1
  at_lower = jnp.exp(jnp.minimum(density - 0.5 * lower**2, most))
  at_upper = at_lower * jnp.exp(-0.5 * (upper - lower) * (upper + lower))
  return log_mass, at_upper * tangents[1] - at_lower * tangents[0]


def _log_difference(larger, smaller):
  """log(e^larger - e^smaller)."""
  return larger + jnp.log(-jnp.expm1(jnp.minimum(smaller - larger, -1e-7)))


# log(erfc(x) e^(x^2) (1 + x / 2)) as a polynomial in 1 / (1 + x / 2), to 1.2e-7 for all x >= 0
# (Press et al., Numerical Recipes, section 6.2): far quicker than `jax.scipy.special.log_ndtr`.
ERFC = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398,
        1.48851587, -0.82215223, 0.17087277)


def _log_tail(x):
  """log P(N(0, 1) > x), elementwise."""
  z = abs(x) * math.sqrt(0.5)
  t = 1 / (1 + 0.5 * z)
  polynomial = functools.reduce(lambda total, c: total * t + c, ERFC[::-1])
  tail = jnp.log(0.5 * t) - z * z + polynomial
  return jnp.where(x > 0, tail, jnp.log1p(-jnp.exp(tail)))


def latent_nats(q, p, z):
  """(KL(q | p) (5), log q(z) - log p(z)) in nats, elementwise: two arrays of z's shape.

  For a `QuantisedPosterior` both are what coding z's bin costs. With dither that is exact: the
  receiver knows where in [0, width) the bins begin, q is uniform over one bin, and p, smeared out
  by the dither, has the bin's mass as its density (universal quantisation).
  """
  if isinstance(q, DiagonalGaussian):
    return kl_divergence(q, p), q.log_prob(z) - p.log_prob(z)
  nats = -log_bin_mass(p, z, q.width)
  return nats, nats

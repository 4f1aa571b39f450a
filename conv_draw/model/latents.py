"""Latent distributions: q_t (3), p_t (4) and KL(q_t | p_t) (5), in nats."""

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

  def at(self, noise):
    """Dithered: uniform around the mean if noise ~ N(0, 1); else the mean, rounded.

    Rounding has the gradient of the identity.
    """
    if self.dithered:
      return self.mean + self.width * (jax.scipy.special.ndtr(noise) - 0.5)
    return self.width * straight_through.nearest(self.mean / self.width)

  def thrifty(self, p, price):
    """The middle of the `thrifty_bin` of a prior p at that price; with the gradient of `at`."""
    mean, width, p = jax.lax.stop_gradient((self.mean, self.width, p))
    scaled = DiagonalGaussian(p.mean / width, p.log_sigma - jnp.log(width))
    chosen = thrifty_bin(mean / width, scaled, price)
    return self.at(0.0) + width * (chosen - jnp.round(mean / width))


def thrifty_bin(position, p, price):
  """Rate-distortion-optimal rounding, one latent at a time: the bin of width 1 that costs least.

  Of the nearest one, the next one towards the prior's mean, and the one that this mean is in.

  Args:
    position: of latents, to be rounded.
    p: `DiagonalGaussian`, the prior.
    price: nats that being off by the width of a bin costs; by less, its square's share of them.
  """
  nearest, away = jnp.round(position), jnp.round(position) - p.mean
  choices = [nearest, nearest - jnp.sign(away) * (abs(away) > 0.5), jnp.round(p.mean)]
  chosen, least = nearest, jnp.inf
  for bins in choices:
    cost = price * (bins - position) ** 2 - log_bin_mass(p, bins, 1.0)
    chosen, least = jnp.where(cost < least, bins, chosen), jnp.minimum(cost, least)
  return chosen


def log_bin_mass(p, z, width):
  """log of the mass that a `DiagonalGaussian` gives to the bin of that width around z, in nats.

  Elementwise, and exact far out in the tails too. z and width are broadcastable to p.mean.
  """
  centre = abs(z - p.mean)  # in the upper tail, where log_ndtr(-x) keeps its precision
  half = 0.5 * width
  lower = jax.scipy.special.log_ndtr(-(centre - half) * jnp.exp(-p.log_sigma))
  upper = jax.scipy.special.log_ndtr(-(centre + half) * jnp.exp(-p.log_sigma))
  return lower + jnp.log(-jnp.expm1(jnp.minimum(upper - lower, -1e-7)))


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

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
    """The Gaussian of feature maps [..., 2 Z]: means, then log sigmas; in float32."""
    return cls(*jnp.split(maps.astype(jnp.float32), 2, axis=-1))

  def at(self, noise):
    """mean + sigma noise: a sample if noise ~ N(0, 1)."""
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


class Bins(NamedTuple):
  """Initial values of the quantisation of latents."""

  width: float = math.sqrt(12)  # quantisation step, in standard deviations of the prior
  gain: float = 0.0  # factor of posterior means, learned by iteration and map; 0: no factor


class QuantisedPosterior(NamedTuple):
  """q_t with an input-independent variance, so that latents can be coded in bins (section 3).

  The quantisation step is the width of a uniform distribution of standard deviation sigma:
  sqrt(12) sigma.
  """

  mean: jax.Array
  log_sigma: jax.Array  # broadcastable to mean
  dithered: bool  # dithered (universal) quantisation; else scalar quantisation

  @property
  def width(self):
    """The quantisation step, in the shape of `log_sigma`."""
    return math.sqrt(12) * jnp.exp(self.log_sigma)

  @property
  def width_of_mean(self):
    """The quantisation step, in the rank of `mean`."""
    return jax.lax.broadcast_to_rank(self.width, self.mean.ndim)

  def at(self, noise):
    """The quantised mean.

    With dither it is uniform around the mean if noise ~ N(0, 1). Without, it is the middle of the
    mean's bin, with the gradient of the identity (straight-through).
    """
    width = self.width_of_mean
    if self.dithered:
      return self.mean + width * (jax.scipy.special.ndtr(noise) - 0.5)
    return width * straight_through.nearest(self.mean / width)


def posterior(kind, maps, log_sigma=None, gain=None):
  """q_t (3) of a layer's maps, in float32.

  Args:
    kind: 'gaussian', 'constant', 'rounded' or 'uniform', as of `ConvDraw.posterior`.
    maps: [B, h, w, 2 Z] means and log sigmas of 'gaussian'; else [B, h, w, Z] means.
    log_sigma: [Z] of iteration t, of an input-independent variance.
    gain: [Z] of iteration t, a factor of the means; None: 1.
  Returns:
    `DiagonalGaussian` or `QuantisedPosterior`.
  """
  if kind == 'gaussian':
    return DiagonalGaussian.split(maps)
  mean = maps.astype(jnp.float32)
  if kind == 'constant':
    return DiagonalGaussian(mean, jnp.broadcast_to(log_sigma, mean.shape))
  if gain is not None:
    mean = gain[None, None, None] * mean
  return QuantisedPosterior(mean, log_sigma, dithered=kind == 'uniform')


def log_bin_mass(p, z, width):
  """log of the mass of a `DiagonalGaussian` p in the bin of that width around z, in nats.

  Elementwise; accurate far out in the tails, too. z and width are broadcastable to p.mean.
  """
  centre = abs(z - p.mean)  # by symmetry in the upper tail, whose small masses are accurate
  half = jax.lax.broadcast_to_rank(0.5 * jnp.asarray(width), p.mean.ndim)
  per_sigma = jnp.exp(-p.log_sigma)
  return _log_mass((centre - half) * per_sigma, (centre + half) * per_sigma)


@jax.custom_jvp
def _log_mass(lower, upper):
  """log of the mass of N(0, 1) in [lower, upper], with lower >= -upper."""
  return log_difference(log_tail(lower), log_tail(upper))


@_log_mass.defjvp
def _log_mass_jvp(primals, tangents):
  """The densities at the edges over the mass between them, finite everywhere."""
  lower, upper = primals
  log_mass = _log_mass(lower, upper)
  density = -0.5 * math.log(2 * math.pi) - log_mass
  # Far out, the density at the lower edge and the mass underflow. Their ratio is bounded by that of
  # the whole tail, or by 1 / width in a narrow bin.
  most = jnp.maximum(jnp.log1p(jnp.maximum(lower, 0)), -jnp.log(upper - lower)) + 1
  at_lower = jnp.exp(jnp.minimum(density - 0.5 * lower**2, most))
  at_upper = at_lower * jnp.exp(-0.5 * (upper - lower) * (upper + lower))
  return log_mass, at_upper * tangents[1] - at_lower * tangents[0]


def log_difference(larger, smaller):
  """log(e^larger - e^smaller)."""
  return larger + jnp.log(-jnp.expm1(jnp.minimum(smaller - larger, -1e-7)))


# log(erfc(x) e^(x^2) (1 + x / 2)) as a polynomial in 1 / (1 + x / 2), to 1.2e-7 for all x >= 0
# (Press et al., Numerical Recipes, section 6.2): far quicker than `jax.scipy.special.log_ndtr`.
ERFC = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398,
        1.48851587, -0.82215223, 0.17087277)


def log_tail(x):
  """log P(N(0, 1) > x), elementwise."""
  z = abs(x) * math.sqrt(0.5)
  t = 1 / (1 + 0.5 * z)
  polynomial = functools.reduce(lambda total, c: total * t + c, ERFC[::-1])
  tail = jnp.log(0.5 * t) - z * z + polynomial
  return jnp.where(x > 0, tail, jnp.log1p(-jnp.exp(tail)))


def latent_nats(q, p, z):
  """(KL(q | p) (5), log q(z) - log p(z)) in nats, elementwise: two arrays of z's shape.

  Of a `QuantisedPosterior` both are the cost of coding z's bin. With dither this is the KL: the
  receiver knows the dither, q is uniform over one bin, and the density of p convolved with the
  dither is the bin's mass over its width (universal quantisation).
  """
  if isinstance(q, DiagonalGaussian):
    return kl_divergence(q, p), q.log_prob(z) - p.log_prob(z)
  nats = -log_bin_mass(p, z, q.width)
  return nats, nats

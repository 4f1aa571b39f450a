"""Latent and pixel distributions: everything the paper writes as q, p, KL and L^x.

Costs are in nats throughout; `objective.bits_per_dim` is the only place that leaves them.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


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


def gaussian_cost(x, mean, log_sigma, bin_width):
  """L^x (11) for Gaussian pixels: KL(U(x - s/2, x + s/2) | N(mean, exp(log_sigma)^2)) (9, 10).

  In closed form, elementwise, in nats. Never negative; an upper bound on -log of the mass that
  the Gaussian gives to the bin, because E_U[-log p] >= -log E_U[p].

  Args:
    x: pixel values in [0, 1], the centres of the bins.
    mean, log_sigma: of the Gaussian, broadcastable to x.
    bin_width: s, the distance between two pixel values (1/255 for 8 bits).
  """
  variance_of_bin = bin_width**2 / 12
  squared = (x - mean) ** 2 + variance_of_bin
  return (
      -math.log(bin_width) + log_sigma + 0.5 * math.log(2 * math.pi)
      + 0.5 * squared * jnp.exp(-2 * log_sigma)
  )


@dataclasses.dataclass(frozen=True)
class GaussianPixels:
  """Pixels with `levels` values; the canvas holds mu and alpha = log sigma per channel (8, 9)."""

  levels: int = 256

  def canvas_channels(self, channels):
    return 2 * channels

  def initial_canvas(self, channels):
    """r_0 before training, [2 C]: mid grey, as broad as pixel values are."""
    return jnp.concatenate([jnp.full(channels, 0.5), jnp.full(channels, math.log(0.3))])

  def mean(self, canvas):
    """mu(r) of equation (1): [..., 2 C] -> [..., C]."""
    return jnp.split(canvas, 2, axis=-1)[0]

  def cost(self, x, canvas):
    """L^x in nats per pixel and channel: x [..., C] in [0, 1], canvas [..., 2 C] -> [..., C]."""
    mean, log_sigma = jnp.split(canvas, 2, axis=-1)  # (8)
    return gaussian_cost(x, mean, log_sigma, 1 / (self.levels - 1))


@dataclasses.dataclass(frozen=True)
class BernoulliPixels:
  """Binary pixels; the canvas holds one logit per channel."""

  levels: int = 256  # the two values are stored as 0 and levels - 1

  def canvas_channels(self, channels):
    return channels

  def initial_canvas(self, channels):
    return jnp.full(channels, -1.0)  # ink is rarer than paper

  def mean(self, canvas):
    return jax.nn.sigmoid(canvas)

  def cost(self, x, canvas):
    """-log p(x | canvas) in nats per pixel: x [..., C] in {0, 1}, canvas [..., C] logits."""
    return jax.nn.softplus(canvas) - x * canvas


def pixels(likelihood, levels):
  """The pixel distribution named by `config.model.likelihood`."""
  if likelihood == 'gaussian':
    return GaussianPixels(levels)
  if likelihood == 'bernoulli':
    return BernoulliPixels(levels)
  raise ValueError(f'no likelihood {likelihood!r}: there are "gaussian" and "bernoulli"')

"""Pixel distributions p(x | canvas) and their cost L^x, equations (8) to (11), in nats.

Each distribution has the number of canvas channels, their initial values, the mean (which equation
(1) subtracts and pictures show), and the cost of an image.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def gaussian_cost(x, mean, log_sigma, bin_width):
  """L^x (11) for Gaussian pixels: KL(U(x - s/2, x + s/2) | N(mean, exp(log_sigma)^2)) (9, 10).

  In closed form, elementwise, in nats. The cost is never negative. It is an upper bound on -log of
  the Gaussian's mass in the bin, because E_U[-log p] >= -log E_U[p].

  Args:
    x: pixel values in [0, 1], the centres of the bins.
    mean, log_sigma: of the Gaussian, broadcastable to x.
    bin_width: s, the distance between neighbouring pixel values (1/255 for 8 bits).
  """
  variance_of_bin = bin_width**2 / 12
  squared = (x - mean) ** 2 + variance_of_bin
  return (
      -math.log(bin_width) + log_sigma + 0.5 * math.log(2 * math.pi)
      + 0.5 * squared * jnp.exp(-2 * log_sigma)
  )


@dataclasses.dataclass(frozen=True)
class GaussianPixels:
  """Gaussian pixels. The canvas holds mu and alpha = log sigma of each channel (8), (9)."""

  grey_levels: int = 256

  def canvas_channels(self, channels: int) -> int:
    """R, for images of C channels."""
    return 2 * channels

  def initial_canvas(self, channels: int) -> jax.Array:
    """The initial r_0, [2 C]: mean 0.5, standard deviation 0.3."""
    return jnp.concatenate([jnp.full(channels, 0.5), jnp.full(channels, math.log(0.3))])

  def split(self, canvas: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """(mu, alpha = log sigma) (8): [..., 2 C] -> [..., C] each."""
    return tuple(jnp.split(canvas, 2, axis=-1))

  def mean(self, canvas: ArrayLike) -> jax.Array:
    """mu(r) of (1): [..., 2 C] -> [..., C]."""
    return self.split(canvas)[0]

  def cost(self, x: ArrayLike, canvas: ArrayLike) -> jax.Array:
    """L^x (11), nats per pixel and channel: x [..., C] in [0, 1], canvas [..., 2 C] -> [..., C]."""
    return gaussian_cost(x, *self.split(canvas), 1 / (self.grey_levels - 1))


@dataclasses.dataclass(frozen=True)
class BernoulliPixels:
  """Binary pixels. The canvas holds one logit per channel."""

  grey_levels: int = 256  # the two values are stored as 0 and grey_levels - 1

  def canvas_channels(self, channels: int) -> int:
    """R, for images of C channels."""
    return channels

  def initial_canvas(self, channels: int) -> jax.Array:
    """The initial r_0, [C]: a logit of -1, as 1 is rarer than 0 in drawings."""
    return jnp.full(channels, -1.0)

  def mean(self, canvas: ArrayLike) -> jax.Array:
    """mu(r) of (1): [..., C] logits -> [..., C] probabilities of 1."""
    return jax.nn.sigmoid(canvas)

  def cost(self, x: ArrayLike, canvas: ArrayLike) -> jax.Array:
    """-log p(x | canvas) in nats per pixel: x [..., C] in {0, 1}, canvas [..., C] logits."""
    return jax.nn.softplus(canvas) - x * canvas

  def uniforms(self, channels: int) -> int:
    """U, the number of uniform random numbers that `draw` takes per pixel of C channels."""
    return channels

  def draw(self, canvas: ArrayLike, uniforms: ArrayLike) -> jax.Array:
    """Samples pixels: canvas [..., C], uniforms [..., C] in (0, 1) -> grey values [..., C]."""
    return jnp.where(uniforms < jax.nn.sigmoid(canvas), self.grey_levels - 1.0, 0.0)

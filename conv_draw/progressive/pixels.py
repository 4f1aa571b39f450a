"""The pixel distribution whose cost is the squared error."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from conv_draw.model.pixels import GaussianPixels


@dataclasses.dataclass(frozen=True)
class SquaredErrorPixels(GaussianPixels):
  """Gaussian pixels with a standard deviation of one grey level. The canvas holds mu, [..., C].

  L^x is half the squared error in grey levels plus a constant; beta sets its weight.
  """

  def canvas_channels(self, channels: int) -> int:
    """R, for images of C channels."""
    return channels

  def initial_canvas(self, channels: int) -> jax.Array:
    """The initial r_0, [C]: mid grey."""
    return jnp.full(channels, 0.5)

  def split(self, canvas: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """(mu, log sigma): [..., C] -> [..., C] each."""
    return canvas, jnp.full_like(canvas, -math.log(self.grey_levels - 1))

"""The loss (12) and the one place where nats become bits per dimension."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Elbo(NamedTuple):
  """The terms of the bound for each of B images, in nats, always at beta = 1."""

  reconstruction_nats: jax.Array  # [B] L^x (11)
  kl_nats: jax.Array  # [T, L, B] L^z_t (5) by iteration and layer
  log_ratio_nats: jax.Array  # [B] log q(z | x) - log p(z) at the z that was drawn

  @property
  def nats(self):
    """[B] minus the evidence lower bound: L^x + sum_t L^z_t."""
    return self.reconstruction_nats + self.kl_nats.sum((0, 1))


def elbo(model, images, inference):
  """Scores what the model inferred.

  Args:
    model: `ConvDraw`, for its pixel distribution.
    images: [B, H, W, C] uint8 in 0..levels-1.
    inference: `model.Inference` of those images.
  """
  cost = model.pixels.cost(model.unit_interval(images), inference.canvas)
  return Elbo(
      cost.sum((1, 2, 3)), inference.kl_nats, inference.log_ratio_nats
  )


def loss(terms, beta):
  """Equation (12) averaged over images: beta L^x + sum_t L^z_t, a scalar in nats per image."""
  return jnp.mean(beta * terms.reconstruction_nats + terms.kl_nats.sum((0, 1)))


def bits_per_dim(nats, image_shape):
  """Nats per image -> bits per dimension: nats / (H W C ln 2)."""
  return nats / (math.prod(image_shape) * math.log(2))

"""The loss (12), its k-sample bounds, and the conversion of nats to bits per dimension."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from conv_draw.errors import UserError
from conv_draw.model import arguments


class Elbo(NamedTuple):
  """The terms of the bound for each of B images, in nats, at beta = 1."""

  reconstruction_nats: jax.Array  # [B] L^x (11)
  kl_nats: jax.Array  # [T, L, B] L^z_t (5) by iteration and layer
  log_ratio_nats: jax.Array  # [B] log q(z | x) - log p(z) at the drawn z

  @property
  def nats(self) -> jax.Array:
    """[B] minus the evidence lower bound: L^x + sum_t L^z_t."""
    return self.reconstruction_nats + self.kl_nats.sum((0, 1))


def elbo(model: Any, images: arguments.Array, inference: Any) -> Elbo:
  """The terms of the bound for images and their inference.

  Args:
    model: `ConvDraw`, `Vae` or another `image_model.ImageModel`.
    images: [B, H, W, C] uint8 in 0..grey_levels-1.
    inference: `conv_draw.Inference` of these images.
  Raises:
    UserError: the images are not of that form, or the inference is of other images.
  """
  model.check_images(images)
  if images.shape[:3] != inference.canvas.shape[:3]:  # broadcasting would hide the mistake
    raise UserError(
        f'images of shape {images.shape} are not those of a canvas {inference.canvas.shape}')
  return Elbo(model.reconstruction_nats(images, inference), inference.kl_nats,
              inference.log_ratio_nats)


def bound(
    terms: Elbo, beta: float = 1.0, samples: int = 1, kind: str = 'elbo',
) -> jax.Array:
  """The loss (12) of each of B images: an upper bound on -log p(x) if beta = 1.

  Args:
    terms: `Elbo` of B * samples entries; sample j of image b is entry b * samples + j.
    beta: scales L^x.
    samples: k, draws of the latents per image.
    kind: 'elbo' for equation (12), beta L^x + sum_t L^z_t, averaged over the samples; 'iwae' for
      the importance-weighted bound (Burda et al., 2016), -log 1/k sum_j p(x, z_j) / q(z_j | x).
  Returns:
    [B] nats.
  Raises:
    ValueError: unknown kind.
  """
  by_image = lambda nats: nats.reshape(-1, samples)
  reconstruction_nats = beta * terms.reconstruction_nats
  if kind == 'elbo':
    return by_image(reconstruction_nats + terms.kl_nats.sum((0, 1))).mean(1)
  if kind == 'iwae':
    log_weights = by_image(-(reconstruction_nats + terms.log_ratio_nats))
    return math.log(samples) - jax.nn.logsumexp(log_weights, 1)
  raise ValueError(f'no bound {kind!r}: there are "elbo" and "iwae"')


def loss(terms: Elbo, beta: float, samples: int = 1, kind: str = 'elbo') -> jax.Array:
  """`bound` averaged over images: a scalar in nats per image."""
  return jnp.mean(bound(terms, beta, samples, kind))


def bits_per_dim(nats: Any, image_shape: Sequence[int]) -> Any:
  """Nats per image of shape (H, W, C) -> bits per dimension: nats / (H W C ln 2)."""
  return nats / (math.prod(arguments.size(image_shape, 'HWC', 'image_shape')) * math.log(2))

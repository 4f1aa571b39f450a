"""The loss (12), its k-sample bounds, and the one place where nats become bits per dimension."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.errors import UserError
from conv_draw.model import arguments


class Elbo(NamedTuple):
  """The terms of the bound for each of B images, in nats, always at beta = 1."""

  reconstruction_nats: jax.Array  # [B] L^x (11); of local pixels, -log p(x | z)
  kl_nats: jax.Array  # [T, L, B] L^z_t (5) by iteration and layer
  log_ratio_nats: jax.Array  # [B] log q(z | x) - log p(z) at the z that was drawn
  canvas_nats: jax.Array | None = None  # [B] L^x of the canvas that local pixels see, no term of it
  # Of models with `prefixes`, no terms of it either: of the canvas of every iteration
  prefix_nats: jax.Array | None = None  # [T, B] L^x(r_t)
  squared_error: jax.Array | None = None  # [T, B] of what is shown of it, as of an `Inference`
  restored: Any = None  # `conv_draw.Restored`, if only some prefixes are restored

  @property
  def nats(self) -> jax.Array:
    """[B] minus the evidence lower bound: L^x + sum_t L^z_t."""
    return self.reconstruction_nats + self.kl_nats.sum((0, 1))


def elbo(model: Any, images: arguments.Array, inference: Any) -> Elbo:
  """Scores what the model inferred.

  Args:
    model: `ConvDraw`, `Vae` or `LocalDraw`, for its pixel distribution.
    images: [B, H, W, C] uint8 in 0..grey_levels-1.
    inference: `conv_draw.Inference` of those images.
  Returns:
    `Elbo`.
  Raises:
    UserError: no such images, or an inference of others.
  """
  arguments.images(images, 'BHWC', model.pixels.grey_levels, 'images', model.channels)
  if images.shape[:3] != inference.canvas.shape[:3]:  # one of them would be broadcast
    raise UserError(
        f'images of shape {images.shape} are not those of a canvas {inference.canvas.shape}')
  if inference.pixel_nats is not None:
    return Elbo(inference.pixel_nats, inference.kl_nats, inference.log_ratio_nats,
                inference.canvas_nats)
  cost = model.pixels.cost(model.unit_interval(images), inference.canvas)
  return Elbo(cost.sum((1, 2, 3)), inference.kl_nats, inference.log_ratio_nats,
              None, inference.prefix_nats, inference.squared_error, inference.restored)


def betas(first: float, last: float, iterations: int) -> np.ndarray:
  """beta_t of the progressive cost, [T]: geometric from the first prefix to the last."""
  return first * (last / first) ** (np.arange(iterations) / max(iterations - 1, 1))


def progressive(
    terms: Elbo, betas: np.ndarray, axis_name: str | None = None,
) -> jax.Array:
  """The cost of all prefixes, beyond the paper: each is trained as the codec of its own rate.

  With the cost of prefix t being sum_{s <= t} L^z_s + beta_t L^x(r_t), a small part of any counts
  as much as the same part of another: short prefixes cost few nats, and would be sacrificed.

  Args:
    terms: `Elbo` of B images, of a model with `prefixes`.
    betas: [T], of `betas`.
    axis_name: of `jax.pmap`, over whose devices the batch is divided equally, B images on each;
      None: the B images are the batch.
  Returns:
    [B] nats: the costs weighted by the inverse of their means over the images of the batch, which
    have no gradients; the mean over images is that of the unweighted costs over t. If prefixes are
    restored, their squared errors are added likewise, relative to the mean squared error that
    canvases of the same iteration have before `restoration`.
  """
  def means_over_batch(values):  # [T, B] -> [T, 1]
    means = jax.lax.stop_gradient(values.mean(1, keepdims=True))
    return means if axis_name is None else jax.lax.pmean(means, axis_name)

  stored = jnp.cumsum(terms.kl_nats.sum(1), 0)  # [T, B]
  costs = stored + betas[:, None] * terms.prefix_nats
  means = means_over_batch(costs)
  relative = (costs / means).mean(0)
  if terms.restored is not None:
    at, errors, before = terms.restored
    relative += (errors / means_over_batch(before)[at, 0]).mean(0)
  return relative * means.mean()


def bound(
    terms: Elbo, beta: float = 1.0, samples: int = 1, kind: str = 'elbo', auxiliary: float = 0.0,
) -> jax.Array:
  """What training minimises, for each of B images: an upper bound on -log p(x) if beta = 1.

  Args:
    terms: `Elbo` of B * samples entries, an image's samples side by side: b * samples + j.
    beta: scales L^x.
    samples: k, how many draws of the latents each image has.
    kind: 'elbo' for equation (12), beta L^x + sum_t L^z_t, averaged over the samples; 'iwae' for
      the importance-weighted bound (Burda et al., 2016), -log 1/k sum_j p(x, z_j) / q(z_j | x).
    auxiliary: weight of the canvas's own cost, averaged over the samples; of local pixels.
  Returns:
    [B] nats.
  Raises:
    ValueError: there is no bound of that kind.
  """
  by_image = lambda nats: nats.reshape(-1, samples)
  if auxiliary:
    return (bound(terms, beta, samples, kind)
            + auxiliary * by_image(terms.canvas_nats).mean(1))
  reconstruction_nats = beta * terms.reconstruction_nats
  if kind == 'elbo':
    return by_image(reconstruction_nats + terms.kl_nats.sum((0, 1))).mean(1)
  if kind == 'iwae':
    log_weights = by_image(-(reconstruction_nats + terms.log_ratio_nats))
    return math.log(samples) - jax.nn.logsumexp(log_weights, 1)
  raise ValueError(f'no bound {kind!r}: there are "elbo" and "iwae"')


def loss(
    terms: Elbo, beta: float, samples: int = 1, kind: str = 'elbo', auxiliary: float = 0.0,
) -> jax.Array:
  """`bound` averaged over images: a scalar in nats per image."""
  return jnp.mean(bound(terms, beta, samples, kind, auxiliary))


def bits_per_dim(nats: Any, image_shape: Sequence[int]) -> Any:
  """Nats per image of shape (H, W, C) -> bits per dimension: nats / (H W C ln 2)."""
  return nats / (math.prod(arguments.size(image_shape, 'HWC', 'image_shape')) * math.log(2))

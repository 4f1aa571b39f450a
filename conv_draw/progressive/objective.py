"""The multi-rate loss: every truncation point of the latents is trained as a codec of its rate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def geometric_betas(first: float, last: float, iterations: int) -> np.ndarray:
  """beta_t of the multi-rate loss, [T]: geometric from the first truncation point to the last."""
  return first * (last / first) ** (np.arange(iterations) / max(iterations - 1, 1))


def multi_rate(inference: Any, betas: np.ndarray, axis_name: str | None = None) -> jax.Array:
  """The cost of all truncation points.

  With the cost of truncation point t being sum_{s <= t} L^z_s + beta_t L^x(r_t), a small part of
  any counts as much as the same part of another: the first ones cost few nats, and would be
  sacrificed.

  Args:
    inference: `model.Inference` of B images.
    betas: [T], of `geometric_betas`.
    axis_name: of `jax.pmap`, over whose devices the batch is divided equally, B images on each;
      None: the B images are the batch.
  Returns:
    [B] nats: the costs weighted by the inverse of their means over the images of the batch, which
    have no gradients, so that the mean over images is that of the unweighted costs over t. Added to
    it, with the same mean cost as their unit, are the squared errors of post-filtered pictures
    relative to the mean squared error of canvases of the same iteration before the filter.
  """
  def means_over_batch(values):  # [T, B] -> [T, 1]
    means = jax.lax.stop_gradient(values.mean(1, keepdims=True))
    return means if axis_name is None else jax.lax.pmean(means, axis_name)

  stored = jnp.cumsum(inference.kl_nats.sum(1), 0)  # [T, B]
  costs = stored + betas[:, None] * inference.canvas_nats
  means = means_over_batch(costs)
  relative = (costs / means).mean(0)
  if inference.filtered is not None:
    at, errors, before = inference.filtered
    relative += (errors / means_over_batch(before)[at, 0]).mean(0)
  return relative * means.mean()

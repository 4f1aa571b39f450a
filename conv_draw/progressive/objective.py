"""The multi-rate rate-distortion loss, which trains every truncation point of the latents."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def geometric_betas(first: float, last: float, iterations: int) -> np.ndarray:
  """beta_t of the multi-rate loss, [T]: geometric from the first truncation point to the last."""
  return first * (last / first) ** (np.arange(iterations) / max(iterations - 1, 1))


def multi_rate(inference: Any, betas: np.ndarray, axis_name: str | None = None) -> jax.Array:
  """The multi-rate loss of each image: the mean relative cost of its truncation points.

  The cost of truncation point t is sum_{s <= t} L^z_s + beta_t L^x(r_t). Each cost is divided by
  its mean over the batch, so that the first points, which cost few nats, count as much as the last.

  Args:
    inference: `model.Inference` of B images.
    betas: [T], of `geometric_betas`.
    axis_name: of `jax.pmap`, over whose devices the batch is divided equally, B images on each;
      None: the B images are the batch.
  Returns:
    [B] nats: an image's relative cost, averaged over t, times the mean cost over images and t. The
      mean over images is therefore the mean cost. The means have no gradients. With post-filtered
      pictures, the squared error of each, relative to the mean squared error of canvases of the
      same iteration before the filter, is added to the relative cost.
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

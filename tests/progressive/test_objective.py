import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.progressive import objective
from tests.progressive.small import KEY, T, inferred, photos, stirred


def test_truncation_points_count_by_their_share():
  inference = inferred()._replace(filtered=None)
  betas = objective.geometric_betas(0.01, 0.25, T)
  assert betas[0] == pytest.approx(0.01) and betas[-1] == pytest.approx(0.25)
  np.testing.assert_allclose(betas[1:] / betas[:-1], (0.25 / 0.01) ** (1 / (T - 1)))
  kl = np.asarray(inference.kl_nats).sum(1)
  costs = np.array([kl[: t + 1].sum(0) + betas[t] * inference.canvas_nats[t] for t in range(T)])
  found = objective.multi_rate(inference, betas)
  np.testing.assert_allclose(found.mean(), costs.mean(), rtol=1e-5)
  # 1 % more of the first point alone costs as much as 1 % more of the last one.
  mean_cost = lambda factors: objective.multi_rate(inference._replace(
      kl_nats=0 * inference.kl_nats, canvas_nats=factors[:, None] * costs / betas[:, None]),
      betas).mean()
  gradient = jax.grad(mean_cost)(jnp.ones(T))
  np.testing.assert_allclose(gradient, costs.mean() / T, rtol=1e-4)


def test_filtered_pictures_count_by_the_errors_of_their_canvases():
  """In the means over the batch, whose images are divided over the devices of an axis."""
  model, params = stirred()
  inference = jax.jit(functools.partial(model.apply, some=2))(params, KEY, photos())
  betas = objective.geometric_betas(0.01, 0.25, T)
  added = np.asarray(objective.multi_rate(inference, betas)
                     - objective.multi_rate(inference._replace(filtered=None), betas))
  kl = np.asarray(inference.kl_nats).sum(1).cumsum(0)
  costs = (kl + betas[:, None] * inference.canvas_nats).mean()
  at, errors, before = map(np.asarray, inference.filtered)
  np.testing.assert_allclose(
      added / costs, (errors / before.mean(1)[at]).mean(0), rtol=1e-3)
  # The last axis of all terms is that of the images.
  terms = inference._replace(canvas=None, log_ratio_nats=None)
  halves = lambda x: x.reshape(*x.shape[:-1], 2, -1)
  divided = jax.vmap(
      functools.partial(objective.multi_rate, betas=betas, axis_name='halves'),
      in_axes=(jax.tree.map(lambda x: x.ndim - 1, terms),), axis_name='halves')(
          jax.tree.map(halves, terms))
  np.testing.assert_allclose(
      divided.reshape(-1), objective.multi_rate(inference, betas), rtol=1e-5)

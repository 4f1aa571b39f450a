"""Latent optimisation: an encoder's effort, of which a decoder knows nothing.

RDOQ chooses one latent at a time, and ignores its effect on the canvas of later iterations and on
their priors. The optimiser minimises the nats of the latents plus the weighted squared error at one
truncation point. Each update shifts the posterior means along the negative gradient, and they are
quantised. Each cell continues from its shifts of lowest cost, a sum over the cells within `RADIUS`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.codec.network import factor, fixed_numerics
from conv_draw.model import latents, layers
from conv_draw.progressive import context, rdoq
from conv_draw.progressive.model import Progressive
from conv_draw.progressive.transform import GREY

UPDATES = (0, 8, 24)  # by effort
FIRST_LENGTH, MAX_LENGTH = 0.1, 0.3  # of an update: fractions of Newton's step for the error alone
GROWTH, DECAY = 1.2, 0.5  # of a cell's length, after an update that lowered its cost or did not
MAX_SHIFT = 1.5  # bins
# The Lagrange multiplier of the error, relative to that of training; fitted on photographs.
LAGRANGIAN = 1.4
RADIUS = 2  # cells to either side whose cost a cell's latents are assumed to change


class Optimisation(NamedTuple):
  """The limits of an optimisation."""

  effort: int  # index of `UPDATES`
  max_nats: float = math.inf  # relative to latents without shifts
  max_error: float = math.inf  # squared, likewise


def supports(model) -> bool:
  """Whether the latents of a model can be optimised."""
  return isinstance(model, Progressive) and model.lmbda > 0


def shifts(network, observed, qp_offset, groups, optimisation, progress):
  """Shifts of the means of the first layer's posteriors, to be added before they are quantised.

  Args:
    network: `network.Network` of a model that this `supports`.
    observed: `recurrence.Image` of B images.
    qp_offset: one of `network.offsets`, of the images.
    groups: n > 0, the truncation point whose cost is minimised.
    optimisation: `Optimisation`.
    progress: called with how many updates are done, and how many there are.
  Returns:
    float32 [n, latents of B images]: of the shifts within the limits those that cost least, or 0.
  """
  model, prepared = network.model, network.prepared
  with fixed_numerics():
    shape = (groups, network.batch, *network.shapes[0])
    tried = jnp.zeros(shape)
    state = tried, tried, jnp.full(shape[1:4], np.inf), jnp.full(shape[1:4], FIRST_LENGTH)
    best, least, limits, updates = tried, math.inf, None, UPDATES[optimisation.effort]
    for number in range(updates + 1):
      following, state, sums = _update(
          model, prepared, observed, np.float32(factor(qp_offset)), tried, state)
      nats, error = map(float, sums)
      if limits is None:
        limits = optimisation.max_nats * nats, optimisation.max_error * error
      if nats <= limits[0] and error <= limits[1] and nats + error < least:
        best, least = tried, nats + error
      tried = following
      progress(number, updates)
    steps = np.stack(
        [np.tile(network.quantisation_steps(0, t), network.batch) for t in range(groups)])
  return np.asarray(best).reshape(groups, -1) * steps


@functools.partial(jax.jit, static_argnums=0)
def _update(model, prepared, observed, scale, tried, state):
  """Evaluates shifts and returns the next ones to try.

  Args:
    model: static.
    prepared, observed, scale: as of `_costs`.
    tried: [n, B, h, w, Z] shifts.
    state: (kept, gradient [n, B, h, w, Z], cost, length [B, h, w]): of each cell, the best shifts
      so far, with the gradient and the cost there, and the length of the next update.
  Returns:
    (the next shifts, state, (nats, weighted error) of those that were tried).
  """
  def total(shifts):
    nats, error = _costs(model, prepared, observed, scale, shifts)
    return (nats + error).sum(), (nats, error)

  (_, (nats, error)), found = jax.value_and_grad(total, has_aux=True)(tried)
  kept, gradient, least, length = state
  cost = _around(nats + error)
  better = cost < least
  by_cell = lambda cells: cells[None, ..., None]
  kept, gradient = (
      jnp.where(by_cell(better), new, old) for new, old in ((tried, kept), (found, gradient)))
  least = jnp.where(better, cost, least)
  length = jnp.minimum(length * jnp.where(better, GROWTH, DECAY), MAX_LENGTH)
  curvature = 2 * _weights(prepared, len(tried))[:, None, None, None]
  following = jnp.clip(
      kept - by_cell(length) * gradient / curvature, -MAX_SHIFT, MAX_SHIFT)
  return following, (kept, gradient, least, length), (nats.sum(), error.sum())


def _costs(model, prepared, observed, scale, shifts):
  """Nats of the latents and of the weighted error, [B, h, w] each.

  Args:
    prepared: of `Progressive.prepare`.
    observed: `recurrence.Image` of the images.
    scale: the factor of their differences from mid grey.
    shifts: [n, B, h, w, Z].
  """
  here = prepared.net.here
  first, _ = context.checkerboard(here.size)[:, None]
  weights = model.distortion_weights(prepared, 0)

  def iterate(state, t):
    _, (posterior,) = model.posteriors(prepared, t, observed, state)
    mean = jax.lax.stop_gradient(posterior.mean) + shifts[t] * posterior.width_of_mean
    moved, z, nats = posterior._replace(mean=mean), None, []
    for coding_pass in range(model.coding_passes):
      prior = model.prior(prepared, t, 0, coding_pass, state, [z])
      quantised = rdoq.quantise(moved, prior, weights[t][None, None, None])
      quantised = jax.lax.stop_gradient(quantised - mean) + mean  # straight through the rounding
      nats.append(latents.latent_nats(moved, prior, quantised)[0])
      z = quantised if z is None else jnp.where(first, z, quantised)
    # Anchor and non-anchor cells, each under its own prior.
    return model.update(prepared, t, state, [z]), jnp.where(first, *nats).sum(-1)

  state, nats = jax.lax.scan(
      jax.checkpoint(iterate, prevent_cse=False), model.start(prepared, len(observed.x)),
      jnp.arange(len(shifts)))
  mean = model.pixels.mean(model.canvas(prepared, state))
  picture = jnp.clip(mean, 0.5 - 0.5 * scale, 0.5 + 0.5 * scale)
  picture = layers.space_to_depth(picture, here.block).reshape(observed.x.shape)
  error = ((picture - observed.x) ** 2).sum((3, 4))
  return nats.sum(0), _lagrangian(prepared, len(shifts)) * error


def _weights(prepared, groups):
  """[n, Z]: nats of an error of a bin at the slope of truncation point n; 1 where none is coded."""
  w = prepared.net.w
  weight = _lagrangian(prepared, groups) / GREY**2
  return jnp.where(w.distortion_weight[:groups] > 0, weight * w.step[:groups] ** 2, 1.0)


def _lagrangian(prepared, groups):
  """Nats of a squared error at truncation point n, pixels in 0..1; in training beta / 2 s^2."""
  w = prepared.net.w
  weight, step = w.distortion_weight[groups - 1], w.step[groups - 1]
  return LAGRANGIAN * jnp.max(weight / step**2) * GREY**2  # the weight is beta step^2 / 2, or 0


def _around(cells):
  """[B, h, w]: sums over the cells within `RADIUS`."""
  side = 2 * RADIUS + 1
  return jax.lax.reduce_window(cells, 0.0, jax.lax.add, (1, side, side), (1, 1, 1), 'SAME')

"""Latent optimisation: an encoder's effort, of which a decoder knows nothing.

RDOQ looks at one latent at a time. What else a latent does, to the canvas by the network and to the
priors of later ones, the gradient of the cost of the truncation point says: posterior means are
moved against it before they are quantised, again and again, and a cell keeps those moves with which
it and the cells around it cost least.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.codec.network import OFFSETS, as_everywhere, factor
from conv_draw.model import latents, layers
from conv_draw.progressive import context, rdoq
from conv_draw.progressive.model import Progressive
from conv_draw.progressive.transform import GREY

STEPS = (0, 8, 24)  # by effort
FIRST, LONGEST = 0.1, 0.3  # of a step: parts of what Newton's method would do for the error alone
LONGER, SHORTER = 1.2, 0.5  # the next one of a cell, after a good one and a bad one
FARTHEST = 1.5  # bins
# The Lagrange multiplier of the error, relative to that of training; fitted on photographs.
LAGRANGIAN = 1.4
RADIUS = 2  # cells to either side whose cost a cell's latents are taken to change
# Offsets tried beyond the one found, for a size or for a quality, one after the other until
# the size is used up or the quality met.
FOR_SIZE, FOR_QUALITY = (1, 0), (3, 1)
USED_UP = 0.99


class Refinement(NamedTuple):
  """What is wanted of latents that are refined."""

  effort: int  # of `STEPS`
  larger: float = math.inf  # nats at most, relative to those of latents as they are
  worse: float = math.inf  # squared error at most, likewise


def refines(model):
  """Whether latents of a model can be refined."""
  return isinstance(model, Progressive) and model.lmbda > 0


def search(
    encode, psnr_of, size_of, found, contrast, effort, searched, limit=math.inf, psnr=None):
  """A better file than one that was found, or that one.

  Args:
    encode: (how many groups, contrast, `Refinement` or None) -> segments, and what coding promised
      to cost.
    psnr_of: segments -> PSNR in dB.
    size_of: of some segments, in bytes.
    found: segments, and what coding promised to cost.
    contrast: that it was found in.
    effort: of `Refinement`.
    searched: whether the contrast was looked for, and may be another.
    limit: the size, in bytes, that the file has to keep.
    psnr: the quality, in dB, that it has to have while it becomes smaller. Without one and without
      a limit, the file is the one that costs least, whatever its size.
  """
  best, count, further = found, len(found[0]), (0,)
  if searched:
    further = FOR_SIZE if psnr is None else FOR_QUALITY
  for more in further:
    offset = min(contrast + more, OFFSETS[-1])
    larger = worse = math.inf
    if psnr is not None or limit < math.inf:
      plain = found[0] if offset == contrast else encode(count, offset, None)[0]
      most = limit if psnr is None else size_of(found[0]) - 1
      larger = most / size_of(plain)
      if psnr is not None:
        worse = 10 ** ((psnr_of(plain) - psnr) / 10)
    refined = encode(count, offset, Refinement(effort, larger, worse))
    size = size_of(refined[0])
    if psnr is not None:
      if psnr_of(refined[0]) >= psnr and size < size_of(found[0]):
        return refined
    elif limit == math.inf:
      return refined
    elif size <= limit:
      best = max(best, refined, key=lambda one: psnr_of(one[0]))
      if size > USED_UP * limit:
        break
  return best


def moves(network, seen, contrast, groups, refinement, progress):
  """What to add to the means of the first layer's posteriors before they are rounded.

  Args:
    network: `network.Network` of a model that `refines`.
    seen: `recurrence.Image` of B images.
    contrast: one of `network.offsets` that they are shown in.
    groups: n > 0, how many groups of latents will be stored: truncation point n has the cost.
    refinement: `Refinement`.
    progress: called with how many steps are done, and how many there are.
  Returns:
    float32 [n, latents of B images]; of what was tried within the limits, what costs least, or 0.
  """
  model, prepared = network.model, network.prepared
  with as_everywhere():
    shape = (groups, network.batch, *network.shapes[0])
    tried = jnp.zeros(shape)
    state = tried, tried, jnp.full(shape[1:4], np.inf), jnp.full(shape[1:4], FIRST)
    best, least, limits, steps = tried, math.inf, None, STEPS[refinement.effort]
    for number in range(steps + 1):
      following, state, sums = _step(
          model, prepared, seen, np.float32(factor(contrast)), tried, state)
      nats, error = map(float, sums)
      if limits is None:
        limits = refinement.larger * nats, refinement.worse * error
      if nats <= limits[0] and error <= limits[1] and nats + error < least:
        best, least = tried, nats + error
      tried = following
      progress(number, steps)
    widths = np.stack(
        [np.tile(network.quantisation_steps(0, t), network.batch) for t in range(groups)])
  return np.asarray(best).reshape(groups, -1) * widths


@functools.partial(jax.jit, static_argnums=0)
def _step(model, prepared, seen, scale, tried, state):
  """Judges moves that are tried, and says which to try next.

  Args:
    model: static.
    prepared, seen, scale: as of `_costs`.
    tried: [n, B, h, w, Z] moves.
    state: (kept, gradient [n, B, h, w, Z], cost, length [B, h, w]): of each cell, the moves that
      were best so far, with the gradient and the cost there, and how far to go from there.
  Returns:
    (moves, state, (nats, weighted error), sums of what was tried).
  """
  def total(moves):
    nats, error = _costs(model, prepared, seen, scale, moves)
    return (nats + error).sum(), (nats, error)

  (_, (nats, error)), found = jax.value_and_grad(total, has_aux=True)(tried)
  kept, gradient, least, length = state
  cost = _around(nats + error)
  better = cost < least
  by_cell = lambda cells: cells[None, ..., None]
  kept, gradient = (
      jnp.where(by_cell(better), new, old) for new, old in ((tried, kept), (found, gradient)))
  least = jnp.where(better, cost, least)
  length = jnp.minimum(length * jnp.where(better, LONGER, SHORTER), LONGEST)
  curvature = 2 * _weights(prepared, len(tried))[:, None, None, None]
  following = jnp.clip(
      kept - by_cell(length) * gradient / curvature, -FARTHEST, FARTHEST)
  return following, (kept, gradient, least, length), (nats.sum(), error.sum())


def _costs(model, prepared, seen, scale, moves):
  """Of images and moves: nats of the latents, and of the weighted error, [B, h, w] each.

  Args:
    prepared: of `Progressive.prepare`.
    seen: `recurrence.Image` of the images.
    scale: what their differences from mid grey are multiplied by.
    moves: [n, B, h, w, Z].
  """
  here = prepared.net.here
  first, _ = context.checkerboard(here.size)[:, None]
  weights = model.distortion_weights(prepared, 0)

  def iterate(state, t):
    _, (posterior,) = model.posteriors(prepared, t, seen, state)
    mean = jax.lax.stop_gradient(posterior.mean) + moves[t] * posterior.width_of_mean
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
      jax.checkpoint(iterate, prevent_cse=False), model.start(prepared, len(seen.x)),
      jnp.arange(len(moves)))
  mean = model.pixels.mean(model.canvas(prepared, state))
  picture = jnp.clip(mean, 0.5 - 0.5 * scale, 0.5 + 0.5 * scale)
  picture = layers.space_to_depth(picture, here.block).reshape(seen.x.shape)
  error = ((picture - seen.x) ** 2).sum((3, 4))
  return nats.sum(0), _lagrangian(prepared, len(moves)) * error


def _weights(prepared, groups):
  """[n, Z]: nats of an error of a bin at the slope of the last group; where none, 1."""
  w = prepared.net.w
  weight = _lagrangian(prepared, groups) / GREY**2
  return jnp.where(w.distortion_weight[:groups] > 0, weight * w.step[:groups] ** 2, 1.0)


def _lagrangian(prepared, groups):
  """Nats of a squared error at truncation point n, pixels in 0..1; in training beta / 2 s^2."""
  w = prepared.net.w
  weight, step = w.distortion_weight[groups - 1], w.step[groups - 1]
  return LAGRANGIAN * jnp.max(weight / step**2) * GREY**2  # the weight is beta step^2 / 2, or 0


def _around(cells):
  """[B, h, w]: sums over a cell and those around it, up to `RADIUS`."""
  side = 2 * RADIUS + 1
  return jax.lax.reduce_window(cells, 0.0, jax.lax.add, (1, side, side), (1, 1, 1), 'SAME')

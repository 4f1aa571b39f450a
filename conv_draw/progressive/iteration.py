"""One iteration of the progressive model: q_t, the prior of each coding pass, the update by z_t."""

from typing import NamedTuple

import jax

from conv_draw.model import layers, recurrence
from conv_draw.model.latents import QuantisedPosterior
from conv_draw.progressive import context, transform
from conv_draw.progressive import weights as weights_lib

# Scales of the canvas that the LSTM reads and of its update, chosen so that one learning rate suits
# the LSTM and the transform, which is accurate from the start.
CANVAS_SCALE, UPDATE_SCALE = 4.0, 0.02


class State(NamedTuple):
  """The state of the recurrence between iterations."""

  decoder: recurrence.LayerState
  canvas: jax.Array  # [B, h, w, s*s, R] r_t
  context: context.ContextState
  iterations: jax.Array  # int32 [B] number of iterations so far, for the post-filter


def at(net, t):
  """`net` with the kernels and biases of iteration t."""
  return net._replace(w=weights_lib.at(net.w, t))


def posterior(net, pixels, t, image, state):
  """q_t, a `QuantisedPosterior` of the error's transform coefficients, in place of (2) and (3)."""
  error = (image.x - pixels.mean(state.canvas)) * net.here.valid()  # (1)
  means = transform.analyse(layers.merge_cells(error), net.w.analysis, net.w.step)
  active = transform.active(t, net.here.size, net.w.distortion_weight)
  return QuantisedPosterior(
      active.astype(means.dtype)[None] * means, net.w.log_sigma, dithered=False)


def prior(net, t, hidden, seen):
  """p_t (4) of the first coding pass.

  Args:
    net: of iteration t.
    t: iteration, 0..T-1.
    hidden: the prior given h^d_{t-1} alone, of `recurrence.prior`.
    seen: `context.ContextState`.
  """
  w = net.w
  found = context.with_context(hidden, seen, w.context, w.coefficient, w.step)
  active = transform.active(t, net.here.size, w.distortion_weight)
  # The barrier keeps XLA from computing it again for each use.
  return jax.lax.optimization_barrier(context.bounded(found, active))


def prior_of_second_pass(net, t, hidden, seen, z_1):
  """p_t of the second pass, of the non-anchor cells; z_1 is z_t of the anchor cells, else 0."""
  w = net.w
  return prior(net, t, context.with_neighbours(hidden, z_1, w.neighbours),
               context.update_context(seen, z_1, w.coefficient, w.step))


def update(net, t, state, z):
  """`State` after iteration t, given z_t: (6) and (7)."""
  w = net.w
  canvas = transform.synthesise(state.canvas, z, t, w.synthesis, w.step)
  read = (CANVAS_SCALE * (canvas - 0.5)) * net.here.valid()
  decoder, down = recurrence.decode(
      net, state.decoder, context.features(z), None, layers.merge_cells(read))  # (6)
  canvas = canvas + UPDATE_SCALE * down.reshape(canvas.shape)  # (7)
  return State(decoder, canvas, context.update_context(state.context, z, w.coefficient, w.step),
               state.iterations + 1)

"""One iteration of the progressive model: q_t, the prior of each coding pass, what z_t changes."""

from typing import NamedTuple

import jax

from conv_draw.model import recurrence
from conv_draw.model.latents import QuantisedPosterior
from conv_draw.progressive import context, transform
from conv_draw.progressive import weights as weights_lib

# Scales so that an optimiser's steps, alike for all parameters, suit what the LSTM reads and adds
# beside the transform, which is good from the start.
CANVAS_SCALE, UPDATE_SCALE = 4.0, 0.02


class State(NamedTuple):
  """What the recurrence carries from t - 1 to t."""

  decoder: recurrence.LayerState
  canvas: jax.Array  # [B, h, w, s*s, R] r
  context: context.ContextState
  iterations: jax.Array  # int32 [B], how many there were, for the post-filter


def at(net, t):
  """The net of iteration t: kernels and biases that depend on t are replaced."""
  return net._replace(w=weights_lib.at(net.w, t))


def posterior(net, pixels, t, image, state):
  """q_t: bins around the coefficients of the error, in place of (2) and (3)."""
  error = (image.x - pixels.mean(state.canvas)) * net.here.valid()  # (1)
  means = transform.analyse(error.reshape(*error.shape[:3], -1), net.w.analysis, net.w.step)
  active = transform.active(t, net.here.size, net.w.distortion_weight)
  return QuantisedPosterior(
      active.astype(means.dtype)[None] * means, net.w.log_sigma, dithered=False)


def prior(net, t, hidden, seen):
  """p_t of h^d_{t-1} (`hidden`) and of a `ContextState`."""
  w = net.w
  found = context.with_context(hidden, seen, w.context, w.coefficient, w.step)
  active = transform.active(t, net.here.size, w.distortion_weight)
  # Computed once, and not anew in everything that reads it.
  return jax.lax.optimization_barrier(context.bounded(found, active))


def prior_of_second_pass(net, t, hidden, seen, z_1):
  """p_t of the non-anchor cells, given z_t of the anchor cells, 0 elsewhere."""
  w = net.w
  return prior(net, t, context.with_neighbours(hidden, z_1, w.neighbours),
               context.update_context(seen, z_1, w.coefficient, w.step))


def update(net, t, state, z):
  """`State` after iteration t."""
  w = net.w
  canvas = transform.synthesise(state.canvas, z, t, w.synthesis, w.step)
  read = (CANVAS_SCALE * (canvas - 0.5)) * net.here.valid()
  decoder, down = recurrence.decode(
      net, state.decoder, context.features(z), None, read.reshape(*read.shape[:3], -1))  # (6)
  canvas = canvas + UPDATE_SCALE * down.reshape(canvas.shape)  # (7)
  return State(decoder, canvas, context.update_context(state.context, z, w.coefficient, w.step),
               state.iterations + 1)

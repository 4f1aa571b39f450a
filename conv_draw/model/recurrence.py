"""The recurrence: one iteration of convolutional DRAW, and what it carries to the next.

With two layers, the paper's figure 2; numbers are its equations, ' is "of iteration t - 1":

             ENCODERS, up              LATENTS                  DECODERS, down

                                h^d2' --(4)--> p2
                                               : KL (5)
            +------+        (3)                :           (6)    +------+
   layer 2  | h^e2 | ------------------------> q2 ~~> z2 -------> | h^d2 |
            +------+                                              +------+
                ^                                        (4)       |    |
            (2) |               h^d1' --(4)--> p1 <----------------'    | (6)
                |                              : KL (5)                 v
            +------+        (3)                :           (6)    +------+
   layer 1  | h^e1 | ------------------------> q1 ~~> z1 -------> | h^d1 |
            +------+                                              +------+
              ^  ^                                                 ^    |
          (2) |  | (2)                                         (6) |    | (7)
              |  |         (1)                                     |    v
   pixels     x eps <------------------- x, r' --------------------'    r = r' + W h^d1

Boxes are LSTMs; each also reads its own h', and an encoder the decoders' h^d' of its own layer and
of the one above (2). ~~> draws: z ~ q to infer (3), z ~ p to generate. With one layer, the lower
half is equations (1) to (7) as they stand.

Letters in shapes:
  B  images               H, W  rows and columns of an image     C  channels of an image
  L  layers               h, w  of the maps of a layer           R  channels of the canvas
  T  iterations           s     stride from the maps below       F  feature maps of an LSTM
                                                                 Z  latent maps
A fully connected layer has h = w = 1, and reads what is below as one block: for s*s read H*W.

The shortest statement of the model is `paper` in tests/model/test_conv_draw.py, which the tests
compare this with: the same in strided and transposed convolutions of whole images. Here each is a
stride-1 convolution at the layer's own resolution (`layers`), which is what runs fast.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from conv_draw.model import layers, linear_paths
from conv_draw.model.latents import DiagonalGaussian, latent_nats


class Image(NamedTuple):
  """What the encoder sees of x at every iteration."""

  x: jax.Array  # [B, h, w, s*s, C] in [0, 1], the s*s pixels of each cell of the first layer
  gates: jax.Array  # 4 F maps: conv(x) + b of equation (2), which do not depend on t


class LayerState(NamedTuple):
  """What one layer carries from t - 1 to t: F maps each, in the layout of its grid."""

  h_e: Any  # encoder output h^e, transformed for the convolutions that read it
  c_e: jax.Array  # encoder cell
  h_d: Any  # decoder output h^d, transformed likewise
  c_d: jax.Array  # decoder cell
  above: Any  # h^d of the layer above, brought to this layer's maps; None at the top


class State(NamedTuple):
  """What the recurrence carries from t - 1 to t."""

  layers: tuple[LayerState, ...]  # the layer nearest the pixels first
  canvas: jax.Array  # [B, h, w, s*s, R] r
  memory: Any = None  # `linear_paths.Memory`, if there are such paths
  iterations: Any = None  # int32 [B], how many there were, if canvases are restored


class Output(NamedTuple):
  """What one iteration costs, in nats; None where nothing is inferred."""

  kl_nats: jax.Array | None  # [L, B] KL(q_t | p_t) (5), summed over maps and positions
  log_ratio_nats: jax.Array | None  # [B] log q_t(z_t) - log p_t(z_t), summed over layers too
  # What this canvas would cost, if that is asked for.
  prefix_nats: jax.Array | None = None  # [B] L^x(r_t)
  squared_error: jax.Array | None = None  # [B] of its mean, within 0..1, summed over pixels
  canvas: jax.Array | None = None  # [B, h, w, s*s, R], if it is restored


def step(geometry, weights, pixels, inside, t, image, state, posterior_of, draw_latent,
         prefixes=False):
  """Iteration t of convolutional DRAW: equations (1) to (7), for any number of layers (figure 2).

  Training, reconstruction, sampling and coding all run this; what differs is where z_t comes from.

  Args:
    geometry: `geometry.Geometry` of each layer, the layer nearest the pixels first.
    weights: `weights.Weights` of each layer, prepared.
    pixels: the pixel distribution, for mu(r).
    inside: [h, w, s*s, 1], 0 on the padding of images whose size the stride does not divide, 1
      elsewhere: the padding reads as zero, like all that lies outside an image.
    t: which iteration, 0..T-1; only handed on to the two functions.
    image: `Image`, or None to run the generative half alone.
    state: `State` after iteration t - 1.
    posterior_of: (t, layer, maps [B, h, w, Z or 2 Z]) -> q_t of layer 0, 1, ...
    draw_latent: (t, layer, posterior, prior) -> z_t [B, h, w, Z] of that layer; posterior is q_t,
      or None without an image, and prior is p_t, a `latents.DiagonalGaussian`. Called once per
      layer, from the top down; with linear paths twice for the first one, for either half of the
      cells, of which the other is not read.
    prefixes: whether to say what the canvas of this iteration would cost.
  Returns:
    (`State` after iteration t, `Output`).
  """
  states, canvas, memory = list(state.layers), state.canvas, state.memory
  posteriors = [None] * len(geometry)
  linear = weights[0].linear_read is not None  # `linear_paths`, beyond the paper

  # Encoders, from the pixels up: x and eps_t, then h^e_t of the layer below.
  if image is not None:
    error = ((image.x - pixels.mean(canvas)) * inside[None]).reshape(*image.x.shape[:3], -1)  # (1)
    below = error * linear_paths.ERROR_SEEN if linear else error
    for i, (here, w, old) in enumerate(zip(geometry, weights, state.layers, strict=True)):
      if i > 0:
        below = layers.space_to_depth(geometry[i - 1].grid.leave(below), here.block)
      gates = here.grid.convolve([
          (here.read(below), w.encoder_below), (old.h_e, w.encoder_h_e), (old.h_d, w.encoder_h_d),
          *_above(old.above, w.encoder_above)])
      gates = image.gates + gates if i == 0 else layers.add_bias(gates, w.encoder_bias)
      below, c_e = layers.lstm(gates, old.c_e)  # (2)
      h_e = here.grid.transform(below)
      states[i] = old._replace(h_e=h_e, c_e=c_e)

      # Posterior.
      maps = layers.add_bias(here.maps([(h_e, w.posterior)]), w.posterior_bias)
      if linear and i == 0:
        use = linear_paths.of_use(t, here.size, w.linear_worth[t])
        maps = use.astype(maps.dtype)[None] * linear_paths.read(
            linear_paths.POSTERIOR * maps, error, w.linear_read[t], w.linear_width[t])
      posteriors[i] = posterior_of(t, i, maps)  # (3)

  kl_nats, log_ratio_nats = [], []
  above = None  # h^d_t of the layer above, brought to this layer's maps
  for i in reversed(range(len(geometry))):
    here, w, old, posterior = geometry[i], weights[i], states[i], posteriors[i]

    # Prior, of h^d_{t-1} here and h^d_t above: it does not see z_t.
    kernel, bias = w.prior, w.prior_bias
    if linear and i == 0:
      kernel = jax.tree.map(lambda of_all: of_all[t], kernel)  # noqa: B023
      bias = bias + w.linear_prior_bias[t]
    prior = DiagonalGaussian.split(layers.add_bias(here.maps([
        (old.h_d, kernel), *_above(above, w.prior_above)]), bias))  # (4)

    # Latents, and what they cost.
    if linear and i == 0:
      z, prior = _by_halves(here, w, t, prior, memory, lambda p: draw_latent(t, 0, posterior, p))  # noqa: B023
    else:
      z = draw_latent(t, i, posterior, prior)
    if image is not None:
      kl, log_ratio = latent_nats(posterior, prior, z)
      kl_nats.append(kl.sum((1, 2, 3)))  # (5)
      log_ratio_nats.append(log_ratio.sum((1, 2, 3)))

    # Decoders, from the top down; the last one also reads the canvas.
    told = linear_paths.told(z) if linear and i == 0 else z
    terms = [(here.read(told), w.decoder_latent), (old.h_d, w.decoder_h_d)]
    if i == 0:
      if linear:
        memory = linear_paths.remember(memory, z, w.linear_component[t], w.linear_width[t])
        canvas = linear_paths.paint(canvas, z, t, w.linear_paint[t], w.linear_width[t])
      read = ((linear_paths.seen(canvas) if linear else canvas) * inside[None]).reshape(
          *canvas.shape[:3], -1)
      terms.append((here.read(read), w.decoder_canvas))
    gates = layers.add_bias(
        here.grid.convolve([*terms, *_above(above, w.decoder_above)]), w.decoder_bias)
    h_d, c_d = layers.lstm(gates, old.c_d)  # (6)
    h_d = here.grid.transform(h_d)
    states[i] = old._replace(h_d=h_d, c_d=c_d, above=above)
    down = here.maps([(h_d, w.down)])
    if i > 0:
      above = geometry[i - 1].read(layers.depth_to_space(down, here.block, here.below))

  # Canvas: `down` of the layer nearest the pixels is W h^d_t.
  down = down.reshape(canvas.shape)
  canvas = canvas + (linear_paths.WRITTEN * down if linear else down)  # (7)

  output = Output(None, None)
  if image is not None:
    output = Output(jnp.stack(kl_nats[::-1]), functools.reduce(jnp.add, log_ratio_nats))
    if prefixes:
      error = image.x - jnp.clip(pixels.mean(canvas), 0, 1)
      output = output._replace(
          prefix_nats=(pixels.cost(image.x, canvas) * inside[None]).sum((1, 2, 3, 4)),
          squared_error=(error**2 * inside[None]).sum((1, 2, 3, 4)))
      if state.iterations is not None:
        output = output._replace(canvas=canvas)
  iterations = None if state.iterations is None else state.iterations + 1
  return State(tuple(states), canvas, memory, iterations), output


def _by_halves(here, w, t, prior, memory, draw):
  """z_t and its prior, with `linear_paths`: one half of the cells, then the other, which sees it.

  Args:
    here, w: `Geometry` and prepared `Weights` of the first layer.
    prior: p_t as far as h^d tells it.
    memory: `linear_paths.Memory` of the iterations before.
    draw: prior -> z_t.
  Returns:
    (z_t [B, h, w, Z], the prior that either half had).
  """
  first, second = map(jnp.asarray, linear_paths.in_halves(here.size))
  use = linear_paths.of_use(t, here.size, w.linear_worth[t])
  of_latents = w.linear_component[t], w.linear_width[t]

  def settled(prior, memory):
    seen = linear_paths.context(prior, memory, w.linear_context[t], *of_latents)
    # Computed once, and not anew in everything that reads it.
    return jax.lax.optimization_barrier(linear_paths.settled(seen, use))

  prior_1 = settled(prior, memory)
  z_1 = draw(prior_1) * first.astype(jnp.float32)[None]
  prior_2 = settled(
      linear_paths.beside(prior, z_1, w.linear_beside[t]),
      linear_paths.remember(memory, z_1, *of_latents))
  of_first, of_second = (jnp.broadcast_to(half, z_1.shape) for half in (first, second))
  z = jnp.where(of_second, draw(prior_2), z_1)
  return z, jax.tree.map(lambda a, b: jnp.where(of_first, a, b), prior_1, prior_2)


def _above(x, kernel):
  """What a layer reads of the one above: a list of one term of a sum of convolutions, or none."""
  return [] if kernel is None else [(x, kernel)]

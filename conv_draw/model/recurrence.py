"""The recurrence: one iteration of convolutional DRAW, and the state between iterations.

With two layers, the paper's figure 2. Numbers are its equations; ' marks iteration t - 1:

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

Boxes are LSTMs. Each also reads its own h', and an encoder reads h^d' of its own layer and of the
layer above (2). ~~> is a draw: z ~ q (3) in inference, z ~ p in generation. With one layer, the
lower half is equations (1) to (7) as in the paper.

Letters in shapes:
  B  images               H, W  rows and columns of an image     C  channels of an image
  L  layers               h, w  of the maps of a layer           R  channels of the canvas
  T  iterations           s     stride from the maps below       F  feature maps of an LSTM
                                                                 Z  latent maps
A fully connected layer has h = w = 1 and reads all of the layer below as one block: s*s is then
H*W.

`reference.paper` is the shortest statement of the model, in strided and transposed convolutions of
whole images; the tests compare this module with it. Here every convolution has stride 1, at the
layer's own resolution (`layers`), which is faster. An array has three forms: maps [B, h, w, C]; the
layout of the layer's grid, in which LSTMs work; and "ready", transformed to be convolved.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from conv_draw.model import geometry, layers
from conv_draw.model.latents import DiagonalGaussian, latent_nats


class Image(NamedTuple):
  """The images x in the form in which the encoder reads them at every iteration."""

  x: jax.Array  # [B, h, w, s*s, C] in [0, 1], the s*s pixels of each cell of the first layer
  gates: Any  # 4 F maps: conv(x) + b of equation (2), the same for all t


class LayerState(NamedTuple):
  """The state of one layer between iterations: F maps each, in the layout of its grid."""

  h_e: Any  # encoder output h^e, ready
  c_e: Any  # encoder cell
  h_d: Any  # decoder output h^d, ready
  c_d: jax.Array  # decoder cell
  above: Any  # h^d of the layer above at this layer's resolution, ready; None at the top


class State(NamedTuple):
  """The state of the recurrence between iterations."""

  layers: tuple[LayerState, ...]  # the layer nearest the pixels first
  canvas: jax.Array  # [B, h, w, s*s, R] r


class Output(NamedTuple):
  """Terms of the loss of one iteration, in nats; None when sampling."""

  kl_nats: jax.Array | None  # [L, B] KL(q_t | p_t) (5), summed over maps and positions
  log_ratio_nats: jax.Array | None  # [B] log q_t(z_t) - log p_t(z_t), summed over layers too


class Net(NamedTuple):
  """One layer: its `geometry.Geometry`, and its `weights.Weights` as prepared for it."""

  here: geometry.Geometry
  w: Any

  def convolve(self, **ready: Any) -> jax.Array:
    """The sum of convolutions, in the grid's layout.

    Args:
      **ready: an array, ready, by the name of the kernel that reads it; None (no layer above) is
        left out.
    """
    return self.here.grid.convolve(
        [(x, getattr(self.w, kernel)) for kernel, x in ready.items() if x is not None])

  def maps(self, bias: jax.Array, **ready: Any) -> jax.Array:
    """`convolve` plus a bias [channels], as maps [B, h, w, channels]."""
    return layers.add_bias(self.here.grid.to_maps(self.convolve(**ready)), bias)


def encode(net: Net, s: LayerState, below: jax.Array, bias: jax.Array):
  """The encoder of one layer: (2), and the maps of (3).

  Args:
    net: of the layer.
    s: its state after iteration t - 1.
    below: eps_t, or h^e_t of the layer below, [B, h, w, channels].
    bias: [4 F], or the gates of an `Image`.
  Returns:
    (state, h^e_t in the grid's layout, maps [B, h, w, 2 Z] of q_t).
  """
  gates = net.convolve(encoder_below=net.here.read(below), encoder_h_e=s.h_e, encoder_h_d=s.h_d,
                       encoder_above=s.above)
  h_e, c_e = layers.lstm(layers.add_bias(gates, bias), s.c_e)  # (2)
  s = s._replace(h_e=net.here.grid.transform(h_e), c_e=c_e)
  return s, h_e, net.maps(net.w.posterior_bias, posterior=s.h_e)


def prior(net: Net, s: LayerState, above: Any) -> DiagonalGaussian:
  """p_t (4), given h^d_{t-1} and h^d_t of the layer above (ready; None at the top)."""
  return DiagonalGaussian.split(net.maps(net.w.prior_bias, prior=s.h_d, prior_above=above))


def decode(net: Net, s: LayerState, z: jax.Array, above: Any, canvas: jax.Array | None = None):
  """The decoder of one layer: (6), and W h^d_t of (7).

  Args:
    net: of the layer.
    s: its state after iteration t - 1.
    z: [B, h, w, Z] z_t.
    above: h^d_t of the layer above, ready; None at the top.
    canvas: [B, h, w, s*s*R] r_{t-1}, in the first layer; None in others.
  Returns:
    (state, maps [B, h, w, channels] for the canvas or the layer below).
  """
  read = net.here.read
  gates = net.convolve(
      decoder_latent=read(z), decoder_h_d=s.h_d,
      decoder_canvas=None if canvas is None else read(canvas), decoder_above=above)
  h_d, c_d = layers.lstm(layers.add_bias(gates, net.w.decoder_bias), s.c_d)  # (6)
  s = s._replace(h_d=net.here.grid.transform(h_d), c_d=c_d, above=above)
  return s, net.here.grid.to_maps(net.convolve(down=s.h_d))


def infer(nets: Sequence[Net], distribution: Any, posterior_of: Callable,
          image: Image, state: State):
  """The inference half of iteration t: (1), then (2) and (3) of each layer from the pixels up.

  Args:
    nets: one per layer, the layer nearest the pixels first.
    distribution: p(x | r), for mu(r).
    posterior_of: (layer, maps) -> q_t.
    image: the images to encode.
    state: after iteration t - 1.
  Returns:
    (`State` after the encoders of iteration t, [q_t of each layer]).
  """
  error = (image.x - distribution.mean(state.canvas)) * nets[0].here.valid()  # (1)
  below, states, posteriors = layers.merge_cells(error), [], []
  for i, (net, s) in enumerate(zip(nets, state.layers, strict=True)):
    if i > 0:
      below = layers.space_to_depth(nets[i - 1].here.grid.to_maps(below), net.here.block)
    s, below, maps = encode(net, s, below, image.gates if i == 0 else net.w.encoder_bias)
    states.append(s)
    posteriors.append(posterior_of(i, maps))  # (3)
  return state._replace(layers=tuple(states)), posteriors


def prior_of_layer(nets: Sequence[Net], state: State, zs: Sequence[Any], layer: int):
  """p_t (4) of one layer, given z_t of the layers above it."""
  above = None
  for i in reversed(range(layer + 1, len(nets))):
    _, down = decode(nets[i], state.layers[i], zs[i], above)
    above = _to_layer_below(nets, i, down)
  return prior(nets[layer], state.layers[layer], above)


def generate(nets: Sequence[Net], state: State, draw_latent: Callable):
  """The generative half of iteration t: (4) and (6) of each layer from the top down, then (7).

  Args:
    nets: one per layer, the layer nearest the pixels first.
    state: after iteration t - 1, or after `infer` of iteration t.
    draw_latent: (layer, p_t) -> z_t [B, h, w, Z].
  Returns:
    (`State` after iteration t, [p_t of each layer], [z_t of each layer]).
  """
  states, priors, zs = ([None] * len(nets) for _ in range(3))
  above = None  # h^d_t of the layer above, ready
  for i in reversed(range(len(nets))):
    net, s = nets[i], state.layers[i]
    priors[i] = prior(net, s, above)  # (4)
    zs[i] = draw_latent(i, priors[i])
    # The decoder reads zeros on padding, where the stride does not divide the image size.
    canvas = None if i else layers.merge_cells(state.canvas * net.here.valid())
    states[i], down = decode(net, s, zs[i], above, canvas)  # (6)
    if i > 0:
      above = _to_layer_below(nets, i, down)
  canvas = state.canvas + down.reshape(state.canvas.shape)  # (7)
  return State(tuple(states), canvas), priors, zs


def step(nets: Sequence[Net], distribution: Any, posterior_of: Callable,
         image: Image | None, state: State, draw_latent: Callable):
  """One iteration of convolutional DRAW: equations (1) to (7), for any number of layers (figure 2).

  Inference, reconstruction and sampling run this function, with different `draw_latent`.

  Args:
    nets, distribution, posterior_of, state: as of `infer`.
    image: `Image`, or None to run the generative half alone.
    draw_latent: (layer, q_t or None without an image, p_t) -> z_t [B, h, w, Z]; called from the top
      layer down.
  Returns:
    (`State` after iteration t, `Output`).
  """
  posteriors = [None] * len(nets)
  if image is not None:
    state, posteriors = infer(nets, distribution, posterior_of, image, state)
  state, priors, zs = generate(nets, state, lambda i, p: draw_latent(i, posteriors[i], p))
  if image is None:
    return state, Output(None, None)
  kl_nats, log_ratio_nats = zip(*map(latent_nats, posteriors, priors, zs), strict=True)
  total = lambda nats: nats.sum((1, 2, 3))
  return state, Output(
      jnp.stack([total(kl) for kl in kl_nats]),  # (5)
      functools.reduce(jnp.add, [total(ratio) for ratio in reversed(log_ratio_nats)]))


def _to_layer_below(nets, i, down):
  """`down` of layer i at the resolution of layer i - 1, ready."""
  here = nets[i].here
  return nets[i - 1].here.read(layers.depth_to_space(down, here.block, here.below))

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

`reference.paper` is the shortest statement of the model, in strided and transposed convolutions of
whole images; the tests compare this with it. Here each is a stride-1 convolution at the layer's own
resolution (`layers`), which runs fast. An array has three forms: maps [B, h, w, C]; the layout of
the layer's grid, in which LSTMs work; and "ready", transformed for the convolutions that read it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from conv_draw.model import geometry, layers
from conv_draw.model.latents import DiagonalGaussian, latent_nats


class Image(NamedTuple):
  """What the encoder reads of x at every iteration."""

  x: jax.Array  # [B, h, w, s*s, C] in [0, 1], the s*s pixels of each cell of the first layer
  gates: Any  # 4 F maps: conv(x) + b of equation (2), which do not depend on t


class LayerState(NamedTuple):
  """What one layer carries from t - 1 to t: F maps each, in the layout of its grid."""

  h_e: Any  # encoder output h^e, ready
  c_e: Any  # encoder cell
  h_d: Any  # decoder output h^d, ready
  c_d: jax.Array  # decoder cell
  above: Any  # h^d of the layer above at this layer's resolution, ready; None at the top


class State(NamedTuple):
  """What the recurrence carries from t - 1 to t."""

  layers: tuple[LayerState, ...]  # the layer nearest the pixels first
  canvas: jax.Array  # [B, h, w, s*s, R] r


class Output(NamedTuple):
  """Terms of the loss of one iteration, in nats; None where nothing is inferred."""

  kl_nats: jax.Array | None  # [L, B] KL(q_t | p_t) (5), summed over maps and positions
  log_ratio_nats: jax.Array | None  # [B] log q_t(z_t) - log p_t(z_t), summed over layers too


class Net(NamedTuple):
  """One layer: its `geometry.Geometry` and its prepared `weights.Weights`."""

  here: geometry.Geometry
  w: Any

  def convolve(self, **ready: Any) -> jax.Array:
    """The sum of convolutions, in the grid's layout: kernel's name = the array that it reads.

    Arrays that are None, of a layer above that does not exist, are left out.
    """
    return self.here.grid.convolve(
        [(x, getattr(self.w, kernel)) for kernel, x in ready.items() if x is not None])

  def maps(self, bias: jax.Array, **ready: Any) -> jax.Array:
    """The same as maps [B, h, w, channels], plus a bias [channels]."""
    return layers.add_bias(self.here.grid.leave(self.convolve(**ready)), bias)


def encode(net: Net, s: LayerState, below: jax.Array, bias: jax.Array):
  """(2), and the maps of (3).

  Args:
    net, s: of the layer, after iteration t - 1.
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
  """p_t (4) of h^d_{t-1}, and of h^d_t of the layer above (ready; None at the top)."""
  return DiagonalGaussian.split(net.maps(net.w.prior_bias, prior=s.h_d, prior_above=above))


def decode(net: Net, s: LayerState, z: jax.Array, above: Any, canvas: jax.Array | None = None):
  """(6), and W h^d_t of (7).

  Args:
    net, s: of the layer, after iteration t - 1.
    z: [B, h, w, Z] z_t.
    above: h^d_t of the layer above, ready; None at the top.
    canvas: [B, h, w, s*s*R] r_{t-1}; the first layer alone reads it.
  Returns:
    (state, [B, h, w, channels] what the layer adds to the canvas or sends to the layer below).
  """
  read = net.here.read
  gates = net.convolve(
      decoder_latent=read(z), decoder_h_d=s.h_d,
      decoder_canvas=None if canvas is None else read(canvas), decoder_above=above)
  h_d, c_d = layers.lstm(layers.add_bias(gates, net.w.decoder_bias), s.c_d)  # (6)
  s = s._replace(h_d=net.here.grid.transform(h_d), c_d=c_d, above=above)
  return s, net.here.grid.leave(net.convolve(down=s.h_d))


def infer(nets: Sequence[Net], distribution: Any, posterior_of: Callable,
          image: Image, state: State):
  """(1), then `encode` from the pixels up.

  Args:
    nets: of each layer, the layer nearest the pixels first.
    distribution: p(x | r), for mu(r).
    posterior_of: (layer, maps) -> q_t.
    image: what is encoded.
    state: after iteration t - 1.
  Returns:
    (`State` with the encoders of iteration t, [q_t of each layer]).
  """
  error = (image.x - distribution.mean(state.canvas)) * nets[0].here.valid()  # (1)
  below, states, posteriors = _cells(error), [], []
  for i, (net, s) in enumerate(zip(nets, state.layers, strict=True)):
    if i > 0:
      below = layers.space_to_depth(nets[i - 1].here.grid.leave(below), net.here.block)
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
  """(4), (6) and (7), from the top down.

  Args:
    nets: of each layer, the layer nearest the pixels first.
    state: after iteration t - 1; its encoders are handed on.
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
    # The padding of images whose size the stride does not divide reads as zero.
    canvas = None if i else _cells(state.canvas * net.here.valid())
    states[i], down = decode(net, s, zs[i], above, canvas)  # (6)
    if i > 0:
      above = _to_layer_below(nets, i, down)
  canvas = state.canvas + down.reshape(state.canvas.shape)  # (7)
  return State(tuple(states), canvas), priors, zs


def step(nets: Sequence[Net], distribution: Any, posterior_of: Callable,
         image: Image | None, state: State, draw_latent: Callable):
  """One iteration of convolutional DRAW: equations (1) to (7), for any number of layers (figure 2).

  Training, reconstruction and sampling run this; what differs is where z_t comes from.

  Args:
    nets, distribution, posterior_of, state: as of `infer`.
    image: `Image`, or None to run the generative half alone.
    draw_latent: (layer, q_t or None without an image, p_t) -> z_t [B, h, w, Z], from the top down.
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


def _cells(pixels_of_cells):
  """[B, h, w, s*s, C] -> [B, h, w, s*s*C]."""
  return pixels_of_cells.reshape(*pixels_of_cells.shape[:3], -1)


def _to_layer_below(nets, i, down):
  """`down` of layer i, brought to the resolution of layer i - 1: ready."""
  here = nets[i].here
  return nets[i - 1].here.read(layers.depth_to_space(down, here.block, here.below))

"""The parameters of ConvDraw: their shapes, their roles, and their form in the recurrence."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw.model import layers
from conv_draw.model.geometry import Geometry
from conv_draw.model.latents import Bins

# Log standard deviations and log gains are stored divided by this factor, so that Adam moves them
# ten times as fast: a latent without information costs nothing only once its quantisation step is
# about fifty standard deviations of the prior.
WIDTH_SPEED = 10


class Weights(NamedTuple):
  """One layer's parameters: as `create` makes them, or as `prepare` returns them."""

  encoder_below: Any  # reads eps_t, or h^e_t of the layer below
  encoder_h_e: Any
  encoder_h_d: Any
  encoder_bias: jax.Array
  posterior: Any
  posterior_bias: jax.Array
  posterior_log_sigma: jax.Array | None  # [T, Z] of input-independent variances
  posterior_log_gain: jax.Array | None  # [T, Z] of the gain of posterior means
  prior: Any
  prior_bias: jax.Array
  decoder_latent: Any
  decoder_h_d: Any
  decoder_bias: jax.Array
  down: Any  # h^d -> the canvas (W of equation (7)), or the layer below
  decoder_canvas: Any = None  # of the first layer alone
  encoder_above: Any = None  # those that read the layer above; None at the top
  prior_above: Any = None
  decoder_above: Any = None


# `Role.used_by`: inference, q(z | x), alone; generation, p(x, z), which decoding and inference run
# too; or both.
INFERENCE, GENERATION, BOTH = 'inference', 'generation', 'both'

# `Role.layout` of kernels [k, k, I, O], with k = 1 in fully connected layers:
STRIDED = 'strided'  # reads the I channels below the layer
ADJOINT = 'adjoint'  # the same kernel, used as a transposed convolution from O channels to I below
SAME = 'same resolution'  # between maps of one size
# and of other parameters:
BIAS = 'bias'  # [O]; r_0 may have [H, W, R]
LOG_WIDTHS = 'log widths'  # [T, Z]


class Role(NamedTuple):
  """What training and codecs need to know of a parameter, besides its shape."""

  used_by: str  # INFERENCE, GENERATION or BOTH
  layout: str = ''  # one of the above
  # (input axes, output axis) of a kernel between hidden units, for matrix optimisers (Muon);
  # None: the parameter is optimised elementwise.
  matrix: tuple[tuple[int, ...], int] | None = None
  subset: str = ''  # the trainable subset that it belongs to: a value of `train.part`


def lstm_kernel(used_by: str, layout: str) -> Role:
  """The `Role` of a kernel [k, k, I, O] whose outputs are gates of an LSTM."""
  return Role(used_by, layout, ((0, 1, 2), 3))


# By a parameter's name without its layer's number, and by its name in `Weights`.
ROLES = {
    'encoder_image': lstm_kernel(INFERENCE, STRIDED),
    'encoder_error': lstm_kernel(INFERENCE, STRIDED),  # `encoder_below` of the first layer
    'encoder_below': lstm_kernel(INFERENCE, STRIDED),
    'encoder_h_e': lstm_kernel(INFERENCE, SAME),
    'encoder_h_d': lstm_kernel(INFERENCE, SAME),
    'encoder_above': lstm_kernel(INFERENCE, SAME),
    'encoder_bias': Role(INFERENCE, BIAS),
    'posterior': Role(INFERENCE, SAME),
    'posterior_bias': Role(INFERENCE, BIAS),
    # Generation quantises latents from the prior with the same steps.
    'posterior_log_sigma': Role(BOTH, LOG_WIDTHS),
    'posterior_log_gain': Role(INFERENCE, LOG_WIDTHS),
    'prior': Role(GENERATION, SAME),
    'prior_above': Role(GENERATION, SAME),
    'prior_bias': Role(GENERATION, BIAS),
    'decoder_latent': lstm_kernel(GENERATION, SAME),
    'decoder_h_d': lstm_kernel(GENERATION, SAME),
    'decoder_above': lstm_kernel(GENERATION, SAME),
    'decoder_canvas': lstm_kernel(GENERATION, STRIDED),
    'decoder_bias': Role(GENERATION, BIAS),
    'write': Role(GENERATION, ADJOINT),  # `down` of the layer nearest the pixels
    'down': Role(GENERATION, ADJOINT),
    'initial_canvas': Role(GENERATION, BIAS),
}


def role(name: str) -> Role:
  """The `Role` of the parameter of that name; the layer's number at its end is ignored.

  Raises:
    KeyError: there is no such parameter.
  """
  return ROLES[name.rstrip('_0123456789')]


def between(layer: layers.Layer, kernel: int, size_below: Sequence[int] | None, inputs: int,
            outputs: int) -> tuple[int, int, int, int]:
  """The shape of a STRIDED or ADJOINT kernel, between a layer and the maps or the image below.

  Args:
    layer: the upper layer.
    kernel: side of the convolutions' kernels.
    size_below: (h, w) of the maps below, or (H, W) of the image; used by fully connected layers
      alone.
    inputs: channels below.
    outputs: channels of the layer.
  """
  if layer.stride:
    return (kernel, kernel, inputs, outputs)
  return (1, 1, size_below[0] * size_below[1] * inputs, outputs)


def create(param: Callable, i: int, all_layers: Sequence[layers.Layer], kernel: tuple[int, int],
           size_below: Sequence[int] | None, up: int, down: int, bins: Bins | None = None,
           iterations: int = 0) -> Weights:
  """The parameters of layer i.

  Args:
    param: `nn.Module.param`.
    i: index into `all_layers`.
    kernel: sides of the kernels between the layer's maps, and of those to the maps below.
    size_below: as of `between`.
    up, down: channels from the layer below, and channels to it.
    bins: initial values of an input-independent variance; None if the variance is inferred.
    iterations: T; each iteration has an input-independent variance of its own.
  """
  layer = all_layers[i]
  f, z = layer.features, layer.latents
  maps = z if bins else 2 * z  # means alone, or means and log sigmas of q_t
  side = kernel[0] if layer.stride else 1
  name = lambda n: n if i == 0 else f'{n}_{i + 1}'
  zeros, constant = nn.initializers.zeros, nn.initializers.constant
  new = lambda n, shape, init=nn.initializers.lecun_normal(): param(name(n), init, shape)
  here = lambda n, inputs, outputs: new(n, (side, side, inputs, outputs))
  below = lambda inputs, outputs: between(layer, kernel[1], size_below, inputs, outputs)
  bias = lambda n, init, size: param(name(n), init, (size,))
  by_iteration = lambda n, value: new(
      n, (iterations, z), constant(math.log(value) / WIDTH_SPEED))
  w = dict(
      # (2) h^{e,1}_t = RNN(x, eps_t, h^{e,1}_{t-1}, h^{d,1}_{t-1}, h^{d,2}_{t-1}), and above it
      # h^{e,2}_t = RNN(h^{e,1}_t, h^{e,2}_{t-1}, h^{d,2}_{t-1}); x has a kernel of its own
      encoder_below=new('encoder_error' if i == 0 else 'encoder_below', below(up, 4 * f)),
      encoder_h_e=here('encoder_h_e', f, 4 * f),
      encoder_h_d=here('encoder_h_d', f, 4 * f),
      encoder_bias=bias('encoder_bias', lstm_bias, 4 * f),
      # (3) and (4)
      posterior=here('posterior', f, maps),
      posterior_bias=bias('posterior_bias', zeros, maps),
      posterior_log_sigma=bins and by_iteration('posterior_log_sigma', bins.width / 12**0.5),
      posterior_log_gain=by_iteration('posterior_log_gain', bins.gain)
      if bins and bins.gain else None,
      prior=here('prior', f, 2 * z),
      prior_bias=bias('prior_bias', zeros, 2 * z),
      # (6) h^{d,1}_t = RNN(z^1_t, h^{d,1}_{t-1}, h^{d,2}_t, r_{t-1}), and above it without r
      decoder_latent=here('decoder_latent', z, 4 * f),
      decoder_h_d=here('decoder_h_d', f, 4 * f),
      decoder_canvas=new('decoder_canvas', below(down, 4 * f)) if i == 0 else None,
      decoder_bias=bias('decoder_bias', lstm_bias, 4 * f),
      # (7) W, a transposed convolution; its kernel is that of the convolution it is adjoint to
      down=new('write' if i == 0 else 'down', below(down, f), nn.initializers.variance_scaling(
          0.1 if i == 0 else 1.0, 'fan_out', 'normal')),
  )
  if i + 1 < len(all_layers):  # `down` of the layer above has F maps
    w.update(
        encoder_above=here('encoder_above', f, 4 * f),
        prior_above=here('prior_above', f, 2 * z),
        decoder_above=here('decoder_above', f, 4 * f))
  return Weights(**w)


def prepare(here: Geometry, layer: layers.Layer, w: Weights) -> Weights:
  """A layer's `Weights` as `recurrence` reads them, of those that `create` made."""
  return Weights(*(
      None if value is None else prepared(here, layer, ROLES[name].layout, value)
      for name, value in w._asdict().items()))


def prepared(here: Geometry, layer: layers.Layer, layout: str, value: jax.Array) -> Any:
  """One parameter as `recurrence` reads it: a kernel prepared for `here.grid`, others unchanged."""
  if layout not in (STRIDED, ADJOINT, SAME):
    return value
  if layout != SAME and layer.stride:
    value = layers.strided_kernel(value, layer.stride)
  if layout == ADJOINT:
    value = layers.adjoint_kernel(value)
  return here.grid.prepare(value)


def lstm_bias(key: Any, shape: Sequence[int]) -> jax.Array:
  """The initial bias of gates: 1 for the forget gates, so that cells remember; 0 for the others."""
  del key
  features = shape[0] // 4
  return jnp.zeros(shape).at[features : 2 * features].set(1.0)

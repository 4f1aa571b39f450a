"""The parameters of convolutional DRAW by layer: names, shapes, and how `step` reads them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw.model import layers


class Geometry(NamedTuple):
  """Where a layer lives: what its maps look like and how to convolve them."""

  grid: Any  # `layers.grid`
  size: tuple[int, int]  # of its maps
  block: tuple[int, int]  # cells of the maps below that make one of its cells
  below: tuple[int, int]  # size of the maps below


class Weights(NamedTuple):
  """One layer's parameters: as created, or as `step` reads them, prepared once outside the loop."""

  encoder_below: Any  # reads eps_t, or h^e_t of the layer below
  encoder_h_e: Any
  encoder_h_d: Any
  encoder_bias: jax.Array
  posterior: Any
  posterior_bias: jax.Array
  posterior_log_sigma: jax.Array | None  # [T, Z], of posteriors whose width is not inferred
  prior: Any
  prior_bias: jax.Array
  decoder_latent: Any
  decoder_h_d: Any
  decoder_bias: jax.Array
  down: Any  # h^d -> the canvas (W of equation (7)), or the layer below
  decoder_canvas: Any = None  # of the first layer alone
  encoder_above: Any = None  # what reads the layer above, if there is one
  prior_above: Any = None
  decoder_above: Any = None


def sizes(all_layers, image_size):
  """(h, w) of the image and of each layer's maps, the layer nearest the pixels first.

  Args:
    all_layers: `layers.Layer`s.
    image_size: (H, W); None is enough where no layer is fully connected, and gives Nones.
  """
  if image_size is None:
    return [None] * (1 + len(all_layers))
  found = [tuple(image_size)]
  for layer in all_layers:
    found.append(layer.size(found[-1]))
  return found


def geometry(all_layers, kernel, image_size, dtype):
  """`Geometry` of each layer, for images of (H, W)."""
  size = sizes(all_layers, image_size)
  return tuple(
      Geometry(
          layers.grid(its, kernel if layer.stride else 1, dtype), its, layer.block(below), below)
      for layer, below, its in zip(all_layers, size[:-1], size[1:], strict=True))


def between(layer, kernel, size_below, inputs, outputs):
  """Shape of a kernel between a layer and what is below it, image or layer."""
  if layer.stride:
    return (kernel, kernel, inputs, outputs)
  return (1, 1, size_below[0] * size_below[1] * inputs, outputs)


def create(param, i, all_layers, kernel, size_below, up, down, fixed_widths):
  """The parameters of layer i: `Weights`.

  Args:
    param: `nn.Module.param`.
    i: which of `all_layers`.
    kernel: side of the convolutions' kernels.
    size_below: (h, w) of the maps below.
    up, down: how many channels come from below, and go there.
    fixed_widths: 0 if the posterior's widths are inferred, else T, for how many iterations there
      are some as parameters.
  """
  layer = all_layers[i]
  f, z = layer.features, layer.latents
  side = kernel if layer.stride else 1
  name = lambda n: n if i == 0 else f'{n}_{i + 1}'
  new = lambda n, shape: param(name(n), nn.initializers.lecun_normal(), shape)
  here = lambda n, inputs, outputs: new(n, (side, side, inputs, outputs))
  below = lambda inputs, outputs: between(layer, kernel, size_below, inputs, outputs)
  bias = lambda n, init, size: param(name(n), init, (size,))
  zeros = nn.initializers.zeros
  w = dict(
      # (2) h^{e,1}_t = RNN(x, eps_t, h^{e,1}_{t-1}, h^{d,1}_{t-1}, h^{d,2}_{t-1}), and above it
      # h^{e,2}_t = RNN(h^{e,1}_t, h^{e,2}_{t-1}, h^{d,2}_{t-1}, ...)
      encoder_below=new('encoder_error' if i == 0 else 'encoder_below', below(up, 4 * f)),
      encoder_h_e=here('encoder_h_e', f, 4 * f),
      encoder_h_d=here('encoder_h_d', f, 4 * f),
      encoder_bias=bias('encoder_bias', lstm_bias, 4 * f),
      # (3) and (4)
      posterior=here('posterior', f, z if fixed_widths else 2 * z),
      posterior_bias=bias('posterior_bias', zeros, z if fixed_widths else 2 * z),
      posterior_log_sigma=param(
          name('posterior_log_sigma'), zeros, (fixed_widths, z)) if fixed_widths else None,
      prior=here('prior', f, 2 * z),
      prior_bias=bias('prior_bias', zeros, 2 * z),
      # (6) h^{d,1}_t = RNN(z^1_t, h^{d,1}_{t-1}, h^{d,2}_t, r_{t-1}), and above it without r
      decoder_latent=here('decoder_latent', z, 4 * f),
      decoder_h_d=here('decoder_h_d', f, 4 * f),
      decoder_canvas=new('decoder_canvas', below(down, 4 * f)) if i == 0 else None,
      decoder_bias=bias('decoder_bias', lstm_bias, 4 * f),
      # (7) W, a transposed convolution: its kernel is that of the convolution it is the adjoint
      # of. Between layers likewise.
      down=param(
          name('write' if i == 0 else 'down'), nn.initializers.variance_scaling(
              0.1 if i == 0 else 1.0, 'fan_out', 'normal'), below(down, f)),
  )
  if i + 1 < len(all_layers):  # h^d of the layer above, as `down` brings it here: F maps
    w.update(
        encoder_above=here('encoder_above', f, 4 * f),
        prior_above=here('prior_above', f, 2 * z),
        decoder_above=here('decoder_above', f, 4 * f))
  return Weights(**w)


def prepare(geometry, all_layers, raw):
  """`Weights` of each layer as `step` reads them, from those that `create` made."""
  prepared = []
  for g, layer, w in zip(geometry, all_layers, raw, strict=True):
    change = {}
    for name, value in w._asdict().items():
      if value is None or name.endswith(('bias', 'log_sigma')):
        continue
      if name in ('encoder_below', 'decoder_canvas', 'down'):
        value = strided(layer, value)
      if name == 'down':
        value = layers.adjoint_kernel(value)
      change[name] = g.grid.prepare(value)
    prepared.append(w._replace(**change))
  return tuple(prepared)


def strided(layer, kernel):
  """A kernel between a layer and what is below it, as the layer's grid convolves."""
  return layers.strided_kernel(kernel, layer.stride) if layer.stride else kernel


def lstm_bias(key, shape):
  """Zeros, but 1 for the forget gates, so that cells remember from the start."""
  del key
  features = shape[0] // 4
  return jnp.zeros(shape).at[features : 2 * features].set(1.0)

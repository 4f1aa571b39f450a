"""The parameters of the progressive model: those of conv DRAW's decoder, and its own.

Their names are those of the published weights.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw.model import layers
from conv_draw.model import weights as draw_weights
from conv_draw.model.geometry import Geometry
from conv_draw.model.weights import BOTH, GENERATION, INFERENCE, Role
from conv_draw.progressive import context, transform


class Weights(NamedTuple):
  """The parameters, as `create` makes them or as `prepare` returns them."""

  # Those of `model.weights.Weights`. As created, all iterations share `prior`.
  prior: Any
  prior_bias: jax.Array
  decoder_latent: Any
  decoder_h_d: Any
  decoder_canvas: Any
  decoder_bias: jax.Array
  down: Any
  # Those of each iteration.
  log_sigma: jax.Array  # [T, Z] of q_t; not trained
  analysis: jax.Array  # [T, D, Z]; RDOQ passes it no gradient
  synthesis: jax.Array  # [T, Z, D]
  step: jax.Array  # [T, Z] quantisation steps in grey levels; not trained
  coefficient: jax.Array  # [T, Z] index of the transform coefficient, an integer; not trained
  distortion_weight: jax.Array  # [T, Z] nats of an error of a bin, 0 for unused maps; not trained
  context: jax.Array  # [T, `context.FEATURES`, Z]
  neighbours: jax.Array  # [T, 8 Z, 2 Z]
  own_prior: jax.Array | None  # [T, F, 2 Z], added to the middle of `prior`
  own_prior_bias: jax.Array | None  # [T, 2 Z]


# The role of each parameter.
ROLES = {
    **{name: draw_weights.ROLES[name] for name in (
        'prior', 'prior_bias', 'decoder_latent', 'decoder_h_d', 'decoder_canvas', 'decoder_bias',
        'write', 'initial_canvas')},
    'posterior_log_sigma': Role(BOTH),
    'linear_read': Role(INFERENCE),
    'linear_paint': Role(GENERATION),
    'linear_width': Role(BOTH),
    'linear_component': Role(GENERATION),
    'linear_worth': Role(BOTH),  # 0 for unused maps, which a decoder skips
    'linear_context': Role(GENERATION),
    'linear_beside': Role(GENERATION),
    'linear_prior': Role(GENERATION),
    'linear_prior_bias': Role(GENERATION),
    'restoration_kernel': Role(GENERATION, matrix=((0, 1, 2), 3), subset='post_filter'),
    **{f'restoration_{name}': Role(GENERATION, subset='post_filter')
       for name in ('bias', 'place', 'gain', 'size')},
}


def create(param: Callable, layer: layers.Layer, kernel: int, image_kernel: int, channels: int,
           iterations: int) -> Weights:
  """The parameters without the post-filter's; `initialisation` has those of the transforms.

  Args:
    param: `nn.Module.param`.
    layer: the sizes.
    kernel, image_kernel: sides of the kernels between maps, and between image and maps.
    channels: C, of images and canvas.
    iterations: T.
  """
  f, z, t = layer.features, layer.latents, iterations
  cell = layer.stride**2 * channels  # D
  zeros, ones, lecun = nn.initializers.zeros, nn.initializers.ones, nn.initializers.lecun_normal()
  normal = nn.initializers.normal(1.0)
  return Weights(
      # Zero initialisation: before training, the transform codes alone.
      prior=param('prior', zeros, (kernel, kernel, f, 2 * z)),
      prior_bias=param('prior_bias', zeros, (2 * z,)),
      decoder_latent=param('decoder_latent', lecun, (kernel, kernel, 2 * z, 4 * f)),
      decoder_h_d=param('decoder_h_d', lecun, (kernel, kernel, f, 4 * f)),
      decoder_canvas=param(
          'decoder_canvas', lecun, (image_kernel, image_kernel, channels, 4 * f)),
      decoder_bias=param('decoder_bias', draw_weights.lstm_bias, (4 * f,)),
      down=param('write', nn.initializers.variance_scaling(0.1, 'fan_out', 'normal'),
                 (image_kernel, image_kernel, channels, f)),
      log_sigma=param('posterior_log_sigma', nn.initializers.constant(-math.log(12) / 2), (t, z)),
      analysis=param('linear_read', normal, (t, cell, z)),
      synthesis=param('linear_paint', normal, (t, z, cell)),
      step=param('linear_width', nn.initializers.constant(transform.GREY), (t, z)),
      coefficient=param('linear_component', zeros, (t, z)),
      distortion_weight=param('linear_worth', ones, (t, z)),
      context=param('linear_context', zeros, (t, context.FEATURES, z)),
      neighbours=param('linear_beside', zeros, (t, 8 * z, 2 * z)),
      own_prior=param('linear_prior', zeros, (t, f, 2 * z)),
      own_prior_bias=param('linear_prior_bias', zeros, (t, 2 * z)))


def prepare(here: Geometry, layer: layers.Layer, w: Weights) -> Weights:
  """`Weights` as `iteration` reads them, of those that `create` made."""
  kernels = {
      name: draw_weights.prepared(
          here, layer, draw_weights.ROLES[name].layout, getattr(w, name))
      for name in ('decoder_latent', 'decoder_h_d', 'decoder_canvas', 'down')}
  side = (w.prior.shape[0] // 2,) * 2
  own = jnp.pad(w.own_prior[:, None, None], ((0, 0), side, side, (0, 0), (0, 0)))
  fixed = {name: jax.lax.stop_gradient(getattr(w, name))
           for name in ('log_sigma', 'step', 'coefficient', 'distortion_weight')}
  fixed['coefficient'] = fixed['coefficient'].astype(jnp.int32)
  return w._replace(
      **kernels, **fixed, prior=jax.vmap(here.grid.prepare)(w.prior[None] + own),
      prior_bias=w.prior_bias[None] + w.own_prior_bias, own_prior=None, own_prior_bias=None)


BY_ITERATION = ('prior', 'prior_bias', 'log_sigma', 'analysis', 'synthesis', 'step', 'coefficient',
                'distortion_weight', 'context', 'neighbours')


def at(w: Weights, t: Any) -> Weights:
  """Prepared `Weights` of iteration t, without the leading T."""
  return w._replace(**{
      name: jax.tree.map(lambda x: x[t], getattr(w, name)) for name in BY_ITERATION})


# Weights and checkpoints up to November 2026 have an encoder without effect, as no gradient passes
# RDOQ. Reading them drops it.
_ENCODER = ('encoder_image', 'encoder_error', 'encoder_h_e', 'encoder_h_d', 'encoder_bias',
            'posterior', 'posterior_bias')


def encoder_of(names: Any) -> list[str]:
  """The parameter names that are an encoder's, if they are a progressive model's; else []."""
  return [name for name in names if name in _ENCODER] if 'linear_width' in names else []


def without_encoder(tree: Any) -> Any:
  """A tree of training state without the encoder's entries in its dictionaries of parameters."""
  return _of_parameters(lambda d: {
      name: value for name, value in d.items() if name not in encoder_of(d)}, tree)


def with_encoder(tree: Any, shapes: dict[str, tuple[int, ...]]) -> Any:
  """The inverse of `without_encoder`, with zeros for the encoder's entries.

  An entry has arrays only where those of similar parameters are arrays, not placeholders.

  Args:
    tree: of `without_encoder`.
    shapes: of each parameter of the encoder.
  """
  similar = lambda name: ('decoder_bias' if name.endswith('bias') else
                        'prior' if name == 'posterior' else 'decoder_h_d')

  def added(d):
    found = {name: d[similar(name)] for name in shapes}
    return d | {name: jnp.zeros(shapes[name], value.dtype) if hasattr(value, 'dtype') else value
                for name, value in found.items()}

  return _of_parameters(added, tree)


def _of_parameters(change, tree):
  is_one = lambda d: isinstance(d, dict) and 'linear_width' in d
  return jax.tree.map(lambda d: change(d) if is_one(d) else d, tree, is_leaf=is_one)

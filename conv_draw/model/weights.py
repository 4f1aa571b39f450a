"""The parameters of ConvDraw: whose they are, shapes and how `recurrence.step` reads them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors
from flax import linen as nn

from conv_draw.errors import UserError
from conv_draw.model import arguments, layers, linear_paths


class Float32Parameters:
  """A Flax module that computes in float32 whatever type its parameters have: bfloat16, NumPy's.

  It refuses what are no parameters, or those of another model.

  To be named before `nn.Module` among the bases. Its submodules convert theirs themselves.
  """

  def param(self, *args, **kwargs):
    """`nn.Module.param`, as a float32 array of JAX."""
    return jnp.asarray(super().param(*args, **kwargs), jnp.float32)

  def apply(self, variables, *args, **kwargs):
    """`nn.Module.apply`.

    Raises:
      UserError: `variables` are no parameters of this model.
    """
    try:
      return super().apply(arguments.params(variables), *args, **kwargs)
    except (errors.ScopeParamNotFoundError, errors.ScopeParamShapeError,
            errors.ScopeCollectionNotFound) as e:
      what = str(e).partition(' (http')[0]
      raise UserError(
          f"params: they are not this model's ({what}): give what its init returns") from e


class Weights(NamedTuple):
  """One layer's parameters: as created, or as `step` reads them, prepared once outside the loop."""

  encoder_below: Any  # reads eps_t, or h^e_t of the layer below
  encoder_h_e: Any
  encoder_h_d: Any
  encoder_bias: jax.Array
  posterior: Any
  posterior_bias: jax.Array
  posterior_log_sigma: jax.Array | None  # [T, Z], of posteriors whose width is not inferred
  posterior_log_gain: jax.Array | None  # [T, Z], of means that are multiplied by one
  prior: Any  # prepared, if there are linear paths: by iteration
  prior_bias: jax.Array
  decoder_latent: Any
  decoder_h_d: Any
  decoder_bias: jax.Array
  down: Any  # h^d -> the canvas (W of equation (7)), or the layer below
  decoder_canvas: Any = None  # of the first layer alone
  encoder_above: Any = None  # what reads the layer above, if there is one
  prior_above: Any = None
  decoder_above: Any = None
  # Of the first layer alone, if there are `linear_paths`; by iteration.
  linear_read: jax.Array | None = None  # [T, D, Z]
  linear_paint: jax.Array | None = None  # [T, Z, D]
  linear_width: jax.Array | None = None  # [T, Z] in grey levels, not trained
  linear_component: jax.Array | None = None  # [T, Z] whole numbers, not trained
  linear_worth: jax.Array | None = None  # [T, Z] nats, of an error of a bin; not trained
  linear_context: jax.Array | None = None  # [T, `linear_paths.FEATURES`, Z]
  linear_beside: jax.Array | None = None  # [T, 8 Z, 2 Z], reads z_t of the other half of the cells
  linear_prior: jax.Array | None = None  # [T, F, 2 Z], reads h^d
  linear_prior_bias: jax.Array | None = None  # [T, 2 Z]


# Whose a parameter is: of q(z | x), which inference alone needs; of p(x, z), which generates and
# decodes, and runs along in inference; or of both.
INFERENCE, GENERATION, BOTH = 'inference', 'generation', 'both'

# How a parameter lies, as created: [k, k, I, O], with k = 1 where layers are fully connected, and
STRIDED = 'strided'  # reads what is below the layer: I channels there, O here
ADJOINT = 'adjoint'  # the same, but what is used is the transposed convolution: down from O to I
SAME = 'same resolution'  # between maps of one size
# or no kernel:
BIAS = 'bias'  # [O]; r_0 may have [H, W, R]
LOG_WIDTHS = 'log widths'  # [T, Z]
BY_ITERATION = 'by iteration'  # [T, ...]
RESTORATION = 'restoration'  # as `restoration.Weights` has it
# or what lies below that name is a Flax module's.
MODULE = 'module'


class Role(NamedTuple):
  """What there is to know of a parameter, besides its shape."""

  used_by: str  # INFERENCE, GENERATION or BOTH
  layout: str  # one of the above


# By name, as among the parameters but for the layer's number, and as in `Weights`.
ROLES = {
    'encoder_image': Role(INFERENCE, STRIDED),
    'encoder_error': Role(INFERENCE, STRIDED),  # `encoder_below` of the layer nearest the pixels
    'encoder_below': Role(INFERENCE, STRIDED),
    'encoder_h_e': Role(INFERENCE, SAME),
    'encoder_h_d': Role(INFERENCE, SAME),
    'encoder_above': Role(INFERENCE, SAME),
    'encoder_bias': Role(INFERENCE, BIAS),
    'posterior': Role(INFERENCE, SAME),
    'posterior_bias': Role(INFERENCE, BIAS),
    # Also the widths of the bins that latents from the prior, or from a file, lie in.
    'posterior_log_sigma': Role(BOTH, LOG_WIDTHS),
    'posterior_log_gain': Role(INFERENCE, LOG_WIDTHS),
    'prior': Role(GENERATION, SAME),
    'prior_above': Role(GENERATION, SAME),
    'prior_bias': Role(GENERATION, BIAS),
    'decoder_latent': Role(GENERATION, SAME),
    'decoder_h_d': Role(GENERATION, SAME),
    'decoder_above': Role(GENERATION, SAME),
    'decoder_canvas': Role(GENERATION, STRIDED),
    'decoder_bias': Role(GENERATION, BIAS),
    'write': Role(GENERATION, ADJOINT),  # `down` of the layer nearest the pixels
    'down': Role(GENERATION, ADJOINT),
    'initial_canvas': Role(GENERATION, BIAS),
    'linear_read': Role(INFERENCE, BY_ITERATION),
    'linear_paint': Role(GENERATION, BY_ITERATION),
    'linear_width': Role(BOTH, BY_ITERATION),
    'linear_component': Role(GENERATION, BY_ITERATION),
    'linear_worth': Role(BOTH, BY_ITERATION),  # not 0: which latents there are
    'linear_context': Role(GENERATION, BY_ITERATION),
    'linear_beside': Role(GENERATION, BY_ITERATION),
    'linear_prior': Role(GENERATION, BY_ITERATION),
    'linear_prior_bias': Role(GENERATION, BY_ITERATION),
    **{f'restoration_{name}': Role(GENERATION, RESTORATION)
       for name in ('kernel', 'bias', 'place', 'gain', 'size')},
    # Of `Vae`, whose posterior, prior, write and initial_canvas are whose they are here.
    'encoder': Role(INFERENCE, MODULE),
    'decoder': Role(GENERATION, MODULE),
}


def role(name):
  """The `Role` of what has that name directly below 'params'; numbers at its end do not count.

  Raises:
    KeyError: nothing has that name.
  """
  return ROLES[name.rstrip('_0123456789')]


def is_of_lstm(name):
  """Whether a parameter of that name is a kernel that leads to the gates of an LSTM."""
  return name.startswith(('encoder_', 'decoder_')) and role(name).layout in (STRIDED, SAME)


def between(layer, kernel, size_below, inputs, outputs):
  """Shape of a kernel between a layer and what is below it: STRIDED or ADJOINT.

  Args:
    layer: `layers.Layer`.
    kernel: side of the convolutions' kernels.
    size_below: (h, w) of the maps below, or (H, W) of the image; only read if fully connected.
    inputs: channels below, of one cell.
    outputs: channels of the layer.
  """
  if layer.stride:
    return (kernel, kernel, inputs, outputs)
  return (1, 1, size_below[0] * size_below[1] * inputs, outputs)


def create(param, i, all_layers, kernel, size_below, up, down, fixed_widths=0, log_sigma=0.0,
           linear=0, log_gain=None):
  """The parameters of layer i: `Weights`.

  Args:
    param: `nn.Module.param`.
    i: which of `all_layers`.
    kernel: sides of the convolutions' kernels: of the layer's maps, and to what is below.
    size_below: (h, w) of the maps below, or (H, W) of the image; only read if fully connected.
    up, down: how many channels come from below, and go there.
    fixed_widths: 0 if the posterior's widths are inferred, else T, for how many iterations there
      are some as parameters.
    log_sigma: what these parameters begin as.
    linear: T, if there are `linear_paths` to the layer; else 0.
    log_gain: what those of posterior means begin as; None: there are none.
  """
  layer = all_layers[i]
  f, z = layer.features, layer.latents
  e = layer.encoded
  side = kernel[0] if layer.stride else 1
  name = lambda n: n if i == 0 else f'{n}_{i + 1}'
  zeros = nn.initializers.zeros
  new = lambda n, shape, init=nn.initializers.lecun_normal(): param(name(n), init, shape)
  here = lambda n, inputs, outputs, *init: new(n, (side, side, inputs, outputs), *init)
  # Linear paths are a good coder as they are: the network has to begin by changing nothing.
  quiet = (zeros,) if linear else ()
  below = lambda inputs, outputs: between(layer, kernel[1], size_below, inputs, outputs)
  bias = lambda n, init, size: param(name(n), init, (size,))
  w = dict(
      # (2) h^{e,1}_t = RNN(x, eps_t, h^{e,1}_{t-1}, h^{d,1}_{t-1}, h^{d,2}_{t-1}), and above it
      # h^{e,2}_t = RNN(h^{e,1}_t, h^{e,2}_{t-1}, h^{d,2}_{t-1}); x has a kernel of its own
      encoder_below=new('encoder_error' if i == 0 else 'encoder_below', below(up, 4 * e)),
      encoder_h_e=here('encoder_h_e', e, 4 * e),
      encoder_h_d=here('encoder_h_d', f, 4 * e),
      encoder_bias=bias('encoder_bias', lstm_bias, 4 * e),
      # (3) and (4)
      posterior=here('posterior', e, z if fixed_widths else 2 * z, *quiet),
      posterior_bias=bias('posterior_bias', zeros, z if fixed_widths else 2 * z),
      posterior_log_sigma=param(
          name('posterior_log_sigma'), nn.initializers.constant(log_sigma),
          (fixed_widths, z)) if fixed_widths else None,
      posterior_log_gain=None if log_gain is None else param(
          name('posterior_log_gain'), nn.initializers.constant(log_gain), (fixed_widths, z)),
      prior=here('prior', f, 2 * z, *quiet),
      prior_bias=bias('prior_bias', zeros, 2 * z),
      # (6) h^{d,1}_t = RNN(z^1_t, h^{d,1}_{t-1}, h^{d,2}_t, r_{t-1}), and above it without r
      decoder_latent=here('decoder_latent', 2 * z if linear else z, 4 * f),
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
        encoder_above=here('encoder_above', f, 4 * e),
        prior_above=here('prior_above', f, 2 * z),
        decoder_above=here('decoder_above', f, 4 * f))
  if linear:  # what they begin as in training is `linear_paths.begin`'s to say
    cell = layer.stride**2 * up  # D
    w.update(
        linear_read=param(name('linear_read'), nn.initializers.normal(1.0), (linear, cell, z)),
        linear_paint=param(name('linear_paint'), nn.initializers.normal(1.0), (linear, z, cell)),
        linear_width=param(
            name('linear_width'), nn.initializers.constant(linear_paths.GREY), (linear, z)),
        linear_component=param(name('linear_component'), zeros, (linear, z)),
        linear_worth=param(name('linear_worth'), nn.initializers.ones, (linear, z)),
        linear_context=param(
            name('linear_context'), zeros, (linear, linear_paths.FEATURES, z)),
        linear_beside=param(name('linear_beside'), zeros, (linear, 8 * z, 2 * z)),
        linear_prior=param(name('linear_prior'), zeros, (linear, f, 2 * z)),
        linear_prior_bias=param(name('linear_prior_bias'), zeros, (linear, 2 * z)))
  return Weights(**w)


def prepare(geometry, all_layers, raw):
  """`Weights` of each layer as `step` reads them, from those that `create` made."""
  def of_layer(here, layer, w):
    ready = Weights(*(
        None if value is None else prepared(here, layer, name, value)
        for name, value in w._asdict().items()))
    if w.linear_prior is None:
      return ready
    own = w.linear_prior[:, None, None]  # [T, 1, 1, F, 2 Z]: what each iteration adds in the middle
    side = (w.prior.shape[0] // 2,) * 2
    own = jnp.pad(own, ((0, 0), side, side, (0, 0), (0, 0)))
    return ready._replace(prior=jax.vmap(here.grid.prepare)(w.prior[None] + own))

  return tuple(map(of_layer, geometry, all_layers, raw))


def prepared(here, layer, name, value):
  """One parameter as `step` reads it.

  Args:
    here: the layer's `geometry.Geometry`.
    layer: its `layers.Layer`.
    name: of the parameter, in `ROLES`.
    value: as created.
  Returns:
    A kernel for `here.grid.convolve`; what is no kernel as it is.
  """
  if name in ('linear_width', 'linear_worth'):
    return jax.lax.stop_gradient(value)
  if name == 'linear_component':
    return jax.lax.stop_gradient(value).astype(jnp.int32)
  layout = role(name).layout
  if layout in (BIAS, LOG_WIDTHS, BY_ITERATION):
    return value
  if layout in (STRIDED, ADJOINT) and layer.stride:
    value = layers.strided_kernel(value, layer.stride)
  if layout == ADJOINT:
    value = layers.adjoint_kernel(value)
  return here.grid.prepare(value)


def lstm_bias(key, shape):
  """Zeros, but 1 for the forget gates, so that cells remember from the start."""
  del key
  features = shape[0] // 4
  return jnp.zeros(shape).at[features : 2 * features].set(1.0)

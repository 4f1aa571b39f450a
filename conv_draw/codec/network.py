"""A `StepModel` compiled for coding: what encoder and decoder compute between two coding passes.

Both run the same compiled functions on arrays of the same shapes, so that on one machine they see
the same floats to the last bit. Flat arrays concatenate the values of all images.
"""

import contextlib
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.errors import UserError
from conv_draw.model import geometry

# Offsets of the quantisation steps of an embedded model, as a codec's QP: 64 are a factor of 3, the
# ratio of two successive steps of a coefficient. The image's differences from mid grey are
# multiplied by `factor` before coding and divided by it after decoding: so all steps are wider by
# 1 / factor.
OFFSETS = range(-8, 64)


def factor(offset):
  """The factor of differences from mid grey before coding, at that offset."""
  return 3 ** (-offset / 64)


def offsets(model):
  """The `OFFSETS` of a model: all if it is embedded, else 0 alone."""
  return OFFSETS if model.embedded else range(1)


@contextlib.contextmanager
def fixed_numerics():
  """Fixes types and precision, whatever the user's environment or program has set.

  It also allows transfers: every coding step moves arrays between host and device.
  """
  with (jax.enable_x64(False), jax.default_matmul_precision('highest'),
        jax.transfer_guard('allow')):
    yield


class Network:
  """A `step_model.StepModel` and its parameters, for B images at a time, compiled."""

  def __init__(self, model, params, image_size, batch=1):
    """For B = `batch` images of (H, W)."""
    size = tuple(image_size)
    self.model, self.image_size, self.batch = model, size, batch
    self.params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    with fixed_numerics():
      self._compile(self.params, size, batch)

  def _compile(self, params, size, batch):
    model = self.model
    prepared = jax.jit(lambda params: model.apply(params, size, method='prepare'))(params)
    sizes = geometry.sizes(model.all_layers, size)[1:]
    self.shapes = [  # of each layer's latents
        (*shape, layer.latents) for shape, layer in zip(sizes, model.all_layers, strict=True)]

    @jax.jit
    def posteriors(prepared, t, image, state):
      state, found = model.posteriors(prepared, t, image, state)
      return [_mean_and_sigma(q) for q in found], state

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def prior(i, coding_pass, prepared, t, state, zs):
      return _mean_and_sigma(model.prior(prepared, t, i, coding_pass, state, zs))

    self._posteriors = functools.partial(posteriors, prepared)
    self._prior = lambda i, coding_pass, *rest: prior(i, coding_pass, prepared, *rest)
    self._update = functools.partial(jax.jit(model.update), prepared)
    self._observe = functools.partial(
        jax.jit(lambda prepared, images, scale: model.observe(
            prepared, _scaled(model.unit_interval(images), scale))), prepared)
    self._canvas = functools.partial(jax.jit(model.canvas), prepared)
    self._positions = functools.partial(
        jax.jit(model.positions, static_argnums=2), prepared)
    self._initial = functools.partial(jax.jit(model.start, static_argnums=1), prepared, batch)
    layers = range(len(self.shapes))
    bins = model.posterior in ('uniform', 'rounded')
    values = lambda of_layer: [
        found if found is None else np.asarray(found, np.float64)
        for found in (of_layer(prepared, i) for i in layers if bins)]
    self._steps = values(model.quantisation_steps)
    self._distortion_weights = values(model.distortion_weights)
    self._zeros = [np.zeros((batch, *shape), np.float32) for shape in self.shapes]
    self.prepared = prepared

  def start(self):
    """The state before the first iteration."""
    with fixed_numerics():
      return self._initial()

  def observe(self, images, offset=0):
    """What `posteriors` reads of images [B, H, W, C] uint8.

    Args:
      offset: one of `offsets`.
    """
    with fixed_numerics():
      return self._observe(images, np.float32(factor(offset)) if offset else None)

  def posteriors(self, t, observed, state):
    """(mean, sigma), float64 [n], of q_t in each layer; and the state after its encoders.

    With quantised posteriors, sigma is that of the uniform distribution over a bin.
    """
    with fixed_numerics():
      found, state = self._posteriors(t, observed, state)
      return [_flat(q, 'posterior') for q in found], state

  def prior(self, i, coding_pass, t, state, zs):
    """(mean, sigma), float64 [n], of p_t in layer i; valid for the latents of that coding pass.

    Args:
      zs: z_t of the layers above, and of this one's coding passes before.
    """
    with fixed_numerics():
      return _flat(self._prior(i, coding_pass, t, state, self._shaped(zs)), 'prior')

  def update(self, t, state, zs):
    """The state after iteration t, with z_t float32 [n] of each layer."""
    with fixed_numerics():
      return self._update(t, state, self._shaped(zs))

  def quantisation_steps(self, i, t):
    """[n / B] float64: the quantisation steps of layer i at iteration t."""
    return np.broadcast_to(self._steps[i][t], self.shapes[i]).ravel()

  def coding_passes(self, i, t):
    """The latents of layer i that each coding pass of iteration t codes: lists of int64 [n / B]."""
    with fixed_numerics():
      positions = self._positions(t, i)
    if positions is None:
      return [np.arange(math.prod(self.shapes[i]))]
    return [np.flatnonzero(of_pass) for of_pass in np.asarray(positions)]

  def distortion_weights(self, i, t):
    """[n / B] float64 nats of an error of a bin, for RDOQ; None: latents go to the nearest bin."""
    of_layer = self._distortion_weights[i]
    return None if of_layer is None else np.broadcast_to(of_layer[t], self.shapes[i]).ravel()

  def canvas(self, state):
    """[B, H, W, R] the canvas, float32."""
    with fixed_numerics():
      return np.asarray(self._canvas(state))

  def pixel_gaussians(self, canvas):
    """(mean, scale) in grey levels, float64 [..., C], of `GaussianPixels` [..., R]."""
    with fixed_numerics():
      mean, log_sigma = (np.asarray(a, np.float64) for a in self.model.pixels.split(canvas))
    # The coder's tables end at 2^12 grey levels and 2^-4.
    scale = np.exp(np.clip(log_sigma, -20, 5)) * (self.model.pixels.grey_levels - 1)
    return mean * (self.model.pixels.grey_levels - 1), scale

  def mean_images(self, canvas, offset=0):
    """[B, H, W, C] uint8 of 0..grey_levels-1: the means of the pixels of a canvas.

    Args:
      offset: that the image was coded with.
    """
    grey_levels = self.model.pixels.grey_levels
    with fixed_numerics():
      mean = np.asarray(self.model.pixels.mean(canvas), np.float64)
    mean = 0.5 + (mean - 0.5) / factor(offset)
    return np.rint((grey_levels - 1) * np.clip(mean, 0, 1)).astype(np.uint8)

  def _shaped(self, zs):
    return [
        zero if z is None else z.reshape(zero.shape)
        for z, zero in zip(zs, self._zeros, strict=True)]


def _scaled(x, scale):
  """x in [0, 1] with its differences from mid grey multiplied by `scale`, if that is not None."""
  return x if scale is None else 0.5 + scale * (x - 0.5)


def _mean_and_sigma(gaussian):
  return gaussian.mean, jnp.exp(jnp.broadcast_to(gaussian.log_sigma, gaussian.mean.shape))


def _flat(mean_and_sigma, name):
  mean, sigma = (np.asarray(x, np.float64).ravel() for x in mean_and_sigma)
  if not (np.isfinite(mean).all() and np.isfinite(sigma).all()):
    raise UserError(
        f"the model's {name} is not finite for this image: it cannot be coded; train on, or use "
        'images like those of its training set')
  return mean, sigma

"""A model taken apart for coding: what encoder and decoder compute between two coding steps.

Both run the same compiled functions on arrays of the same shapes, so that on one machine they see
the same floats to the last bit. Flat arrays concatenate the values of all images.
"""

import contextlib
import functools
import math
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.errors import UserError
from conv_draw.model import geometry

LEAST_LOG_MASS = -30.0  # nats

# Offsets of the quantisation steps of an embedded model, a codec's QP: 64 are a factor of 3, which
# lies between two steps of a coefficient. An image is coded with its differences from mid grey
# multiplied by `factor` and decoded with them divided by it: so all steps are wider by 1 / factor.
OFFSETS = range(-8, 64)


def factor(offset):
  """What differences from mid grey are multiplied by before coding, at that offset."""
  return 3 ** (-offset / 64)


def offsets(model):
  """Which of `OFFSETS` there are for a model: 0 alone, or all."""
  return OFFSETS if model.embedded else range(1)


class Clock:
  """Adds up the seconds spent inside its context, which may be nested, and of several threads."""

  def __init__(self):
    self.seconds, self._depth, self._lock = 0.0, 0, threading.Lock()

  def __enter__(self):
    with self._lock:
      self._depth += 1
      self.seconds -= time.perf_counter() if self._depth == 1 else 0.0

  def __exit__(self, *exception):
    with self._lock:
      self._depth -= 1
      self.seconds += time.perf_counter() if self._depth == 0 else 0.0


@contextlib.contextmanager
def as_everywhere():
  """Types and precision are these, whatever the user's environment or program has set.

  So is the guard of transfers: what is coded comes from the host and goes there, at every step.
  """
  with (jax.enable_x64(False), jax.default_matmul_precision('highest'),
        jax.transfer_guard('allow')):
    yield


class Network:
  """A `step_model.StepModel` and its parameters, for B images at a time, compiled."""

  def __init__(self, model, params, image_size, batch=1, clock=None):
    """For B = `batch` images of (H, W); `clock` is to measure the time that calls take."""
    size = tuple(image_size)
    self.model, self.image_size, self.batch = model, size, batch
    self.params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    self._clock = Clock() if clock is None else clock
    with self._as_everywhere():
      self._compile(self.params, size, batch)

  @contextlib.contextmanager
  def _as_everywhere(self):
    with self._clock, as_everywhere():
      yield

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
    self._initial = functools.partial(jax.jit(model.start, static_argnums=1), prepared, batch)
    layers = range(len(self.shapes))
    bins = model.posterior in ('uniform', 'rounded')
    values = lambda of_layer: [
        found if found is None else np.asarray(found, np.float64)
        for found in (of_layer(prepared, i) for i in layers if bins)]
    self._steps = values(model.quantisation_steps)
    self._distortion_weights = values(model.distortion_weights)
    self._zeros = [np.zeros((batch, *shape), np.float32) for shape in self.shapes]
    self._decisions = jax.jit(lambda canvas, earlier: _decisions(
        model.pixels.log_masses(canvas, earlier)))
    self.prepared = prepared

  def start(self):
    """The state before the first iteration."""
    with self._as_everywhere():
      return self._initial()

  def observe(self, images, offset=0):
    """[B, H, W, C] uint8 -> what `posteriors` reads.

    Args:
      offset: one of `offsets`.
    """
    with self._as_everywhere():
      return self._observe(images, np.float32(factor(offset)) if offset else None)

  def posteriors(self, t, seen, state):
    """(mean, sigma), float64 [n], of q_t in each layer; and the state, its encoders moved on.

    With posteriors that are bins, sigma is that of the uniform distribution over one.
    """
    with self._as_everywhere():
      found, state = self._posteriors(t, seen, state)
      return [_flat(q, 'posterior') for q in found], state

  def prior(self, i, coding_pass, t, state, zs):
    """(mean, sigma), float64 [n], of p_t in layer i, right for the latents of that coding pass.

    Args:
      zs: z_t of the layers above, and of this one's coding passes before.
    """
    with self._as_everywhere():
      return _flat(self._prior(i, coding_pass, t, state, self._shaped(zs)), 'prior')

  def update(self, t, state, zs):
    """The state after iteration t, with z_t float32 [n] of each layer."""
    with self._as_everywhere():
      return self._update(t, state, self._shaped(zs))

  def quantisation_steps(self, i, t):
    """[n / B] float64: the quantisation steps of layer i at iteration t."""
    return np.broadcast_to(self._steps[i][t], self.shapes[i]).ravel()

  def coding_passes(self, i, t):
    """The latents of layer i that each coding pass of iteration t codes: lists of int64 [n / B]."""
    with self._as_everywhere():
      positions = self.model.positions(self.prepared, t, i)
    if positions is None:
      return [np.arange(math.prod(self.shapes[i]))]
    return [np.flatnonzero(of_pass) for of_pass in np.asarray(positions)]

  def distortion_weights(self, i, t):
    """[n / B] float64 nats of an error of a bin, for RDOQ; None: to the nearest bins."""
    of_layer = self._distortion_weights[i]
    return None if of_layer is None else np.broadcast_to(of_layer[t], self.shapes[i]).ravel()

  def canvas(self, state):
    """[B, H, W, R] the canvas, float32."""
    with self._as_everywhere():
      return np.asarray(self._canvas(state))

  def pixel_gaussians(self, canvas):
    """(mean, scale) in grey levels, float64 [..., C], of `GaussianPixels` [..., R]."""
    with self._as_everywhere():
      mean, log_sigma = (np.asarray(a, np.float64) for a in self.model.pixels.split(canvas))
    # A network may be as sure as it likes; the coder's tables end at 2^12 grey levels and 2^-4.
    scale = np.exp(np.clip(log_sigma, -20, 5)) * (self.model.pixels.grey_levels - 1)
    return mean * (self.model.pixels.grey_levels - 1), scale

  def pixel_decisions(self, canvas, earlier):
    """Channel c of `LogisticMixturePixels` as yes-or-no questions, of its values' bits.

    Args:
      canvas: [n, R].
      earlier: [n, c] of 0..grey_levels-1: the channels before.
    Returns:
      float64 [n, 2^k - 1] logits, grey_levels <= 2^k: entry 2^d - 1 + v is that of bit k - 1 - d
      being 1, if the d bits above it are the number v.
    """
    x = earlier.astype(np.float32) / (self.model.pixels.grey_levels - 1)
    with self._as_everywhere():
      return np.asarray(self._decisions(canvas, x), np.float64)

  def pixel_decision_errors(self, canvas, earlier, mean_error, log_scale_error):
    """How far another machine's `pixel_decisions` may be off, whose canvas is off by these errors.

    Twice the larger change of each logit where the whole canvas moves by them, one way and the
    other: a logit depends on a mean by up to 20 times its error in grey levels.

    Returns:
      float64 [n, 2^k - 1].
    """
    logits = self.pixel_decisions(canvas, earlier)
    rows = np.arange(canvas.shape[-1]) // self.model.pixels.mixtures
    means = (1 <= rows) & (rows <= self.model.channels)
    error = np.where(means, mean_error, log_scale_error).astype(np.float32)
    moved = [
        abs(self.pixel_decisions(canvas + np.where(means, sign, 1) * error, earlier) - logits)
        for sign in (np.float32(1), np.float32(-1))]
    return 2 * np.maximum(*moved) + log_scale_error * (1 + abs(logits))

  def mean_images(self, canvas, offset=0):
    """[B, H, W, C] uint8 of 0..grey_levels-1: the means of pixels that were not stored.

    Args:
      offset: of the quantisation steps, with which the image was coded.
    """
    grey_levels = self.model.pixels.grey_levels
    with self._as_everywhere():
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
        'images like those that the model has seen')
  return mean, sigma


def _decisions(log_masses):
  """log P of [..., grey_levels] values -> logits of their bits, in `pixel_decisions`' order."""
  grey_levels = log_masses.shape[-1]
  padding = 2 ** math.ceil(math.log2(grey_levels)) - grey_levels
  # All values are possible, so that no bit follows from impossible ones.
  masses = jnp.maximum(log_masses, LEAST_LOG_MASS)
  masses = jnp.pad(masses, [(0, 0)] * (masses.ndim - 1) + [(0, padding)],
                   constant_values=LEAST_LOG_MASS)
  logits = []
  while masses.shape[-1] > 1:
    zero, one = masses[..., 0::2], masses[..., 1::2]
    logits.append(one - zero)
    masses = jnp.logaddexp(zero, one)
  return jnp.concatenate(logits[::-1], -1)

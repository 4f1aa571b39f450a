"""Pixels under the distribution that a canvas describes, to an entropy coder and back."""

import math

import numpy as np

from conv_draw.codec.entropy.parameter_grid import Tolerance
from conv_draw.model.pixels import BernoulliPixels

# How far another machine's canvas may be off, times sqrt(T), as the canvas is a sum over T
# iterations: at least five times the measured root mean square (FORMAT.md).
MEAN_ERROR = 1.2e-6  # of means in [0, 1]
LOG2_SCALE_ERROR = 6e-6
LOGIT_ERROR = 1e-5  # relative to 1 + |logit|


def encode(coder, network, canvas, images, valid):
  """Puts the pixels of images [b, H, W, C] at which `valid`, bool [b, H, W].

  C may be less than the model has: only its first channels are coded then.

  Args:
    coder: `range_coder.Writer` or `lifo_ans.AnsStack`.
    network: `network.Network` of a model with Gaussian or Bernoulli pixels.
    canvas: [B, H, W, R], B >= b.
  """
  values, canvas = images[valid].ravel(), canvas[np.nonzero(valid)]
  if isinstance(network.model.pixels, BernoulliPixels):
    coder.put_bits(values > 0, *_bernoulli(network, canvas, images.shape[-1]))
  else:
    mean, scale, tolerance = _gaussian(network, canvas, images.shape[-1])
    coder.put_pixels(values, mean, scale, network.model.pixels.grey_levels, tolerance)


def decode(coder, network, canvas, valid, channels):
  """Undoes `encode`: [b, H, W, C = channels] uint8, 0 where not `valid`.

  Args:
    coder: `range_coder.Reader` or `lifo_ans.AnsStack`.
  Raises:
    UserError: data of another model or machine.
  """
  images = np.zeros((*valid.shape, channels), np.uint8)
  levels, canvas = network.model.pixels.grey_levels, canvas[np.nonzero(valid)]
  if isinstance(network.model.pixels, BernoulliPixels):
    logits, _ = _bernoulli(network, canvas, channels)
    values = coder.take_bits(logits) * np.uint8(levels - 1)
  else:
    mean, scale, _ = _gaussian(network, canvas, channels)
    values = coder.take_pixels(mean, scale, levels)
  images[valid] = values.reshape(-1, channels)
  return images


def _bernoulli(network, canvas, channels):
  """(logits of n pixels' channels, `Tolerance`) of a canvas [n, R]."""
  logits = canvas[:, :channels].ravel()
  error = math.sqrt(network.model.iterations) * LOGIT_ERROR
  return logits, Tolerance(error * (1 + abs(logits)))


def _gaussian(network, canvas, channels):
  """(mean, scale, `Tolerance`) in grey levels, likewise."""
  mean, scale = (x[:, :channels].ravel() for x in network.pixel_gaussians(canvas))
  growth = math.sqrt(network.model.iterations)
  return mean, scale, Tolerance(
      growth * MEAN_ERROR * (network.model.pixels.grey_levels - 1), growth * LOG2_SCALE_ERROR)

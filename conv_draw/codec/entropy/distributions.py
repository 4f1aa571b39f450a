"""What symbols are coded under, and what that promises to cost.

A Gaussian gives an integer the mass of its bin, from 1/2 below to 1/2 above; if the integers have
bounds, the outermost bins reach to infinity. (So does constriction's QuantizedGaussian, although
its documentation speaks of clipping and normalising.)
"""

import math

import constriction
import numpy as np
from scipy.special import ndtr

from conv_draw.codec.entropy import snapping
from conv_draw.codec.entropy.snapping import PER_OCTAVE

Bernoulli = constriction.stream.model.Bernoulli
QuantizedGaussian = constriction.stream.model.QuantizedGaussian
Uniform = constriction.stream.model.Uniform

SYMBOL_LIMIT = 2**31 - 1
PRECISION = 24  # bits, of the coder's probabilities; none is less than 2^-24


class UnboundedGaussians:
  """n Gaussians over all integers: their likely ones around the mean, and an escape to others.

  Symbols are coded relative to the integer nearest to the mean, -reach..reach, where the ends mean
  escapes. The coder gives every value at least 2^-24, which would add up if all reached as far as
  the broadest Gaussian needs; so each octave of scales has a reach of its own, of 8 to 16 standard
  deviations. That takes 2.8e-6 bits per symbol of scales up to 2, and 0.006 of the broadest.
  """

  def __init__(self, snapped):
    mean, self._scale = snapped.values()
    whole = np.floor(mean + 0.5)
    self._offset = mean - whole
    self.nearest = whole.astype(np.int64)
    octaves = np.maximum(-(-snapped.j // PER_OCTAVE), 1)
    self.groups = [  # (reach, places), of ascending reach
        (8 << octave, np.flatnonzero(octaves == octave))
        for octave in np.flatnonzero(np.bincount(octaves)).tolist()]

  def models(self):
    """Yields (reach, places, model, parameters) of each group."""
    for reach, at in self.groups:
      yield reach, at, QuantizedGaussian(-reach, reach), (self._offset[at], self._scale[at])

  def excess(self, relative):
    """How far symbols are beyond the reach of their Gaussians, int64, of those that are."""
    beyond = np.full(len(relative), -1, np.int64)
    for reach, at in self.groups:
      beyond[at] = abs(relative[at]) - reach
    return beyond[beyond >= 0]


def pixel_model(snapped, grey_levels):
  """(constriction's model, its parameters) of pixels 0..grey_levels-1 under `Snapped` Gaussians."""
  return QuantizedGaussian(0, grey_levels - 1), snapped.values()


# Code lengths -------------------------------------------------------------------------------------


def code_length_bits(symbols, mean, scale):
  """-log2 P of integers [n], summed: what a stream of them should take.

  P is what is coded under: the snapped Gaussian's mass, scaled to leave 2^-24 for every value, and
  the cost of escapes.
  """
  snapped = snapping.snap(mean, scale)
  symbols = snapping.integers(symbols, len(snapped.j), -SYMBOL_LIMIT, SYMBOL_LIMIT)
  gaussians, bits = UnboundedGaussians(snapped), 0.0
  relative = symbols - gaussians.nearest
  for reach, at, _, parameters in gaussians.models():
    bits += _gaussian_bits(np.clip(relative[at], -reach, reach), *parameters, -reach, reach)
  return float(bits + np.sum(2 * np.frexp(gaussians.excess(relative) + 1.0)[1] - 1))


def pixel_code_length_bits(values, mean, scale, grey_levels=256):
  """Likewise for pixels [n]."""
  snapped = snapping.snap(mean, scale, snapping.pixel_support(grey_levels))
  values = snapping.integers(values, len(snapped.j), 0, grey_levels - 1, 'pixels')
  return _gaussian_bits(values, *snapped.values(), 0, grey_levels - 1)


def bit_code_length_bits(values, logits):
  """Likewise for bits [n]."""
  logits = snapping.parameter(logits, 'logits')
  values = snapping.integers(values, len(logits), 0, 1, 'bits')
  probability = snapping.PROBABILITIES[snapping.logit_index(logits)]
  return float(-np.log2(np.where(values == 1, probability, 1 - probability)).sum())


def _gaussian_bits(symbols, mean, scale, low, high):
  above = np.where(symbols < high, (symbols + 0.5 - mean) / scale, math.inf)
  below = np.where(symbols > low, (symbols - 0.5 - mean) / scale, -math.inf)
  mass = np.where(below > 0, ndtr(-below) - ndtr(-above), ndtr(above) - ndtr(below))
  shared = 2.0**PRECISION - (high - low + 1)
  return float(PRECISION * len(symbols) - np.log2(shared * mass + 1).sum())

"""The distributions that symbols are coded under.

A Gaussian gives an integer the mass of its bin, from 1/2 below to 1/2 above; if the integers have
bounds, the outermost bins reach to infinity. (So does constriction's QuantizedGaussian, although
its documentation speaks of clipping and normalising.)
"""

import constriction
import numpy as np

from conv_draw.codec.entropy.parameter_grid import PER_OCTAVE

Bernoulli = constriction.stream.model.Bernoulli
QuantizedGaussian = constriction.stream.model.QuantizedGaussian
Uniform = constriction.stream.model.Uniform

SYMBOL_LIMIT = 2**31 - 1


class UnboundedGaussians:
  """n Gaussians over all integers: the likely ones around the mean, and an escape to the others.

  Symbols are coded relative to the integer nearest to the mean, -reach..reach, where the ends mean
  escapes. The coder gives every value at least 2^-24, which would add up if all reached as far as
  the broadest Gaussian needs; so each octave of scales has a reach of its own, of 8 to 16 standard
  deviations. That takes 2.8e-6 bits per symbol of scales up to 2, and 0.006 of the broadest.
  """

  def __init__(self, gaussians):
    mean, self._scale = gaussians.values()
    whole = np.floor(mean + 0.5)
    self._offset = mean - whole
    self.nearest = whole.astype(np.int64)
    octaves = np.maximum(-(-gaussians.j // PER_OCTAVE), 1)
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


def pixel_model(gaussians, grey_levels):
  """(constriction's model, its parameters) of pixels 0..grey_levels-1 under `GridGaussians`."""
  return QuantizedGaussian(0, grey_levels - 1), gaussians.values()

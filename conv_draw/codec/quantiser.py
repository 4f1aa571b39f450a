"""Latents to integers and back: the bins of one layer's latents in one iteration (section 3).

Bins are as wide as the quantisation step of their map and iteration. With posterior 'uniform' the
bins of every latent begin at a pseudo-random place that encoder and decoder share (dither), so that
decoded latents are distributed as in training; with 'rounded' they are centred at multiples of the
step.
"""

import jax
import numpy as np

from conv_draw.codec.entropy.parameter_grid import Tolerance
from conv_draw.codec.network import fixed_numerics
from conv_draw.model import latents
from conv_draw.progressive import rdoq

# How far another machine's priors may be off, relative to the scale and the mean, and log2 of the
# scale: some six times the measured root mean square (FORMAT.md).
MEAN_ERROR, LOG2_SCALE_ERROR = 1e-5, 6e-6

_best_bin = jax.jit(rdoq.best_bin)


class Quantiser:
  """Quantises the latents of layer i at iteration t; z is (symbol + dither) steps.

  Of a batch of tiles, the first `count` are coded; the others are padding. `at` are the indices of
  the latents of a coding pass, int64 [n]. `latents` and `generated` return an array for the whole
  batch with the values of all coding passes so far, 0 elsewhere.

  Attributes:
    passes: `at` of each coding pass.
  """

  def __init__(self, network, i, t, count, seed):
    """
    Args:
      network: `network.Network` with posterior 'uniform' or 'rounded'.
      seed: ints, of the dither.
    """
    step = network.quantisation_steps(i, t)
    self._step = np.tile(step, count)
    self._size = network.batch * len(step)
    self.passes = [(np.arange(count)[:, None] * len(step) + of_pass).ravel()
                   for of_pass in network.coding_passes(i, t)]
    self._random = np.random.Generator(np.random.PCG64([*seed, t, i]))
    self._dithered = network.model.posterior == 'uniform'
    weights = network.distortion_weights(i, t)
    self._distortion_weights = None if weights is None else np.tile(weights, count)
    self._dither = (
        self._random.random(len(step) * count) - 0.5 if self._dithered
        else np.zeros(len(step) * count))

  def prior_in_bins(self, mean, sigma, at):
    """A prior in units of bins, where symbol k is the bin around k: (mean, scale), [n] each."""
    return mean[at] / self._step[at] - self._dither[at], sigma[at] / self._step[at]

  def tolerance(self, mean, sigma, at):
    """`Tolerance` of another machine's `prior_in_bins`: steps and dither are the same there."""
    return Tolerance(MEAN_ERROR * (sigma[at] + abs(mean[at])) / self._step[at], LOG2_SCALE_ERROR)

  def symbols(self, posterior_mean, mean, scale, at):
    """int64 [n]: the bins nearest to posterior means, or those that RDOQ chooses.

    Args:
      posterior_mean: of all latents.
      mean, scale: of `prior_in_bins`.
    """
    position = posterior_mean[at] / self._step[at] - self._dither[at]
    nearest = np.rint(position)
    if self._distortion_weights is not None:
      prior = latents.DiagonalGaussian(mean, np.log(np.maximum(scale, 1e-6)))
      with fixed_numerics():
        nearest = np.asarray(_best_bin(position, prior, self._distortion_weights[at]))
    return nearest.astype(np.int64)

  def latents(self, symbols, at, before):
    """float32 z_t of symbols, added to the latents of the passes `before`, or None."""
    return self._with((symbols + self._dither[at]) * self._step[at], at, before)

  def generated(self, mean, sigma, temperature, at, before):
    """As `latents`, of samples of the prior that are quantised as stored latents are."""
    step = self._step[at]
    z = mean[at] + temperature * sigma[at] * self._random.standard_normal(len(at))
    if self._dithered:
      z = z + temperature * step * (self._random.random(len(at)) - 0.5)
    else:
      z = step * np.rint(z / step)
    return self._with(z, at, before)

  def _with(self, z, at, before):
    result = np.zeros(self._size, np.float32) if before is None else before.copy()
    result[at] = z
    return result

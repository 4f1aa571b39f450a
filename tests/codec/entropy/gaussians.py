"""Gaussians and symbols to test coders with, and their ideal code lengths."""

import math

import numpy as np
from scipy.special import ndtr

from conv_draw.codec.entropy import distributions
from conv_draw.codec.entropy import parameter_grid as grid
from conv_draw.codec.entropy.range_coder import SYMBOL_LIMIT

SCALES = [1e-3, 0.01, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1e3]


def sample(n, scale, seed=0, spread=20.0):
  """(symbols, mean, scale) with scales within an octave of `scale`, and symbols drawn from them."""
  rng = np.random.default_rng(seed)
  scale = scale * 2 ** rng.uniform(-0.5, 0.5, n)
  mean = rng.uniform(-spread, spread, n) * np.maximum(1, scale)
  return np.rint(rng.normal(mean, scale)).astype(np.int64), mean, scale


def all_scales(n, seed=0, **options):
  each = [sample(n, scale, seed, **options) for scale in SCALES]
  return [np.concatenate(arrays) for arrays in zip(*each, strict=True)]


def elsewhere(mean, scale, tolerance, seed=0):
  """Parameters as another machine may compute them: half at the edges of the tolerance."""
  rng = np.random.default_rng(seed)
  noise = lambda: np.where(
      rng.random(len(mean)) < 0.5, rng.uniform(-1, 1, len(mean)), rng.choice([-1, 1], len(mean)))
  return mean + tolerance * (scale + abs(mean)) * noise(), scale * 2 ** (tolerance * noise())


def at_boundaries(n, seed=0):
  """Parameters exactly where rounding changes its mind, or one ULP beside, of scales 2^-8..2^10."""
  rng = np.random.default_rng(seed)
  j = rng.integers(-64, 80, n)
  scale = np.where(rng.random(n) < 0.5, 2 ** ((j + 0.5) / 8), grid.SCALES[j + 64])
  step = grid.STEPS[grid.nearest(8 * np.log2(scale)) + 64]
  mean = (rng.integers(-100, 100, n) + 0.5 * rng.integers(0, 2, n)) * step + rng.integers(-9, 9, n)
  beside = lambda x: np.nextafter(x, x + rng.integers(-1, 2, n))
  return beside(mean), beside(scale)


def round_gaussians(mean, scale, support=grid.INTEGERS):
  """Rounds Gaussians to the tables.

  Scales are kept within [2^-8, 2^12] (pixels: from 2^-4), means within 2^24 of 0 or, with bounds,
  within their width outside of them.

  Args:
    mean, scale: [n] finite floats, in units of the grid, scale >= 0.
    support: a `Support`.

  Returns:
    `GridGaussians`. Rounding costs 0.003 bits per symbol on average (relative entropy), at most
    0.015.

  Raises:
    ValueError: if a parameter is not finite, a scale negative, or the shapes are not one [n].
  """
  mean, scale = grid.parameters(mean, scale)
  j = grid.nearest(grid.scale_position(scale, support))
  i = grid.nearest(grid.mean_position(mean, j, support))
  return grid.merge_certain(grid.GridGaussians(j, i), support)


def code_length_bits(symbols, mean, scale):
  """The ideal code length of integers [n], in bits: the sum of -log2 P.

  P is the rounded Gaussian's mass, scaled to leave 2^-24 for every value, and escapes have the cost
  of their code.
  """
  rounded = round_gaussians(mean, scale)
  symbols = grid.integers(symbols, len(rounded.j), -SYMBOL_LIMIT, SYMBOL_LIMIT)
  gaussians, bits = distributions.UnboundedGaussians(rounded), 0.0
  relative = symbols - gaussians.nearest
  for reach, at, _, parameters in gaussians.models():
    bits += _gaussian_bits(np.clip(relative[at], -reach, reach), *parameters, -reach, reach)
  return float(bits + np.sum(2 * np.frexp(gaussians.excess(relative) + 1.0)[1] - 1))


def pixel_code_length_bits(values, mean, scale, grey_levels=256):
  """Likewise for pixels [n]."""
  rounded = round_gaussians(mean, scale, grid.pixel_support(grey_levels))
  values = grid.integers(values, len(rounded.j), 0, grey_levels - 1, 'pixels')
  return _gaussian_bits(values, *rounded.values(), 0, grey_levels - 1)


def bit_code_length_bits(values, logits):
  """Likewise for bits [n]."""
  logits = grid.parameter(logits, 'logits')
  values = grid.integers(values, len(logits), 0, 1, 'bits')
  probability = grid.PROBABILITIES[grid.logit_index(logits)]
  return float(-np.log2(np.where(values == 1, probability, 1 - probability)).sum())


def _gaussian_bits(symbols, mean, scale, low, high):
  above = np.where(symbols < high, (symbols + 0.5 - mean) / scale, math.inf)
  below = np.where(symbols > low, (symbols - 0.5 - mean) / scale, -math.inf)
  mass = np.where(below > 0, ndtr(-below) - ndtr(-above), ndtr(above) - ndtr(below))
  shared = 2.0**24 - (high - low + 1)
  return float(24 * len(symbols) - np.log2(shared * mass + 1).sum())

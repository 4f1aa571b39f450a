"""Gaussians and symbols to test coders with."""

import numpy as np

from conv_draw.codec.entropy import snapping

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
  scale = np.where(rng.random(n) < 0.5, 2 ** ((j + 0.5) / 8), snapping.SCALES[j + 64])
  step = snapping.STEPS[snapping.nearest(8 * np.log2(scale)) + 64]
  mean = (rng.integers(-100, 100, n) + 0.5 * rng.integers(0, 2, n)) * step + rng.integers(-9, 9, n)
  beside = lambda x: np.nextafter(x, x + rng.integers(-1, 2, n))
  return beside(mean), beside(scale)

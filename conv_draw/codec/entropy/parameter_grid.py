"""The parameter grid: Gaussians and logits rounded to tables that are the same on every machine.

A network computes slightly different floats on another machine, and one differing bit of one
parameter makes an entropy coder's stream unreadable. So nothing is coded under the floats
themselves:

  rounding          Parameters are rounded to tables, which costs 0.003 bits per symbol: a scale to
                    an index j, the mean to an index i of steps of 1/8 to 1/4 of that scale.
  side information  Where another machine may round to another index, the encoder writes the low
                    bits of its own index, from which a decoder with a near value finds it.
  coding            The tables' values are exact in float64, and constriction (whose erf is its own,
                    in Rust, not the system's) makes the same 24-bit probabilities of them
                    everywhere.

This module has the tables, the rounding, and where the rounding is ambiguous; `range_coder` writes
and reads.
"""

import math
from typing import NamedTuple

import numpy as np

# Scales are 2^(j / 8). The tables are made of literals and powers of two, since pow may differ
# between systems in the last bit.
PER_OCTAVE = 8
FINEST, COARSEST = -64, 96  # j of the scales 2^-8 and 2^12
FINEST_PIXELS = -32  # 2^-4 grey_levels: a pixel is never certain beyond reason
ROOTS = np.array([  # 2^(k / 8)
    1.0, 1.0905077326652577, 1.189207115002721, 1.2968395546510096,
    1.4142135623730951, 1.5422108254079407, 1.681792830507429, 1.8340080864093424])
_J = np.arange(FINEST, COARSEST + 1)
SCALES = np.ldexp(ROOTS[_J % PER_OCTAVE], _J // PER_OCTAVE)  # of j - FINEST
STEPS = np.ldexp(1.0, _J // PER_OCTAVE - 2)  # of means, likewise
MEAN_LIMIT = 2.0**24  # where float32 has no fractions left

# A Gaussian that leaves its likeliest bin with a probability below 2^-29 on either side is as good
# as certain to a coder of 24 bits. All such are rounded to one: the many latents that carry nothing
# then hardly ever need side information.
CERTAIN = 6  # standard deviations from the mean to the nearest edge
_J_CERTAIN = int(math.floor(PER_OCTAVE * math.log2(0.5 / CERTAIN)))  # of the bins in the middle

# Logits of bits, in steps that grow as they matter less: their midpoints are exact too.
POSITIVE = [k / 4 for k in range(1, 17)] + [4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0]
LOGITS = np.array([-x for x in POSITIVE[::-1]] + [0.0] + POSITIVE)
LOGIT_EDGES = (LOGITS[1:] + LOGITS[:-1]) / 2
# Rounded to what the coder distinguishes: the last bit of exp does not show (a test makes sure).
PROBABILITIES = np.array([round(2**24 / (1 + math.exp(-x))) for x in LOGITS]) / 2**24

SLACK = 1e-9  # steps by which the arithmetic here may be off, in float64


class Tolerance(NamedTuple):
  """How far a decoder's parameters may be from the encoder's.

  In place of it, a float t means mean = t (scale + |mean|) and log2_scale = t: the relative errors
  of floating point numbers.
  """

  mean: float | np.ndarray  # absolute, in units of the grid (or of logits): scalar or [n]
  log2_scale: float = 0.0


class Support(NamedTuple):
  """The integers that Gaussians are about."""

  low: float = -math.inf
  high: float = math.inf
  finest: int = FINEST  # index j of the smallest scale


INTEGERS = Support()


def pixel_support(grey_levels):
  """`Support` of pixels 0..grey_levels-1."""
  if not 2 <= grey_levels <= 2**16:
    raise ValueError(f'levels must be in 2..65536, not {grey_levels}')
  return Support(0, int(grey_levels) - 1, FINEST_PIXELS)


class GridGaussians(NamedTuple):
  """n Gaussians as indices into the tables, int64 [n] each."""

  j: np.ndarray  # the scale is 2^(j / 8)
  i: np.ndarray  # the mean is i steps, of 2^(floor(j / 8) - 2)

  def values(self):
    """(mean, scale), float64 [n] each, in units of the grid; exact."""
    at = self.j - FINEST
    return self.i * STEPS[at], SCALES[at]


# Below, an index is the integer nearest to a position, a float. The positions of encoder and
# decoder differ by the tolerance, in steps.


def scale_position(scale, support):
  """[n] in units of j, within the table."""
  low, high = SCALES[support.finest - FINEST], SCALES[-1]
  return PER_OCTAVE * np.log2(np.clip(scale, low, high))


def mean_position(mean, j, support):
  """[n] in steps of scale j. Means far outside the support are moved nearer to it."""
  if math.isinf(support.high):
    mean = np.clip(mean, -MEAN_LIMIT, MEAN_LIMIT)
  else:
    margin = support.high - support.low + 1
    mean = np.clip(mean, support.low - margin, support.high + margin)
  return mean / STEPS[j - FINEST]


def nearest(position):
  return np.rint(position).astype(np.int64)


def ambiguous(position, index, error):
  """Where a position with an error of up to `error` may have another index.

  Returns:
    (places int64 [m], how far at most such a position is from its `index` here, float64 [m]).
  """
  away = abs(position - index) + (error + SLACK)
  places = np.flatnonzero(away > 0.5)
  return places, away[places]


def merge_certain(gaussians, support):
  """`GridGaussians` in which all that are as good as certain of an integer are the same."""
  at = gaussians.j <= _J_CERTAIN
  if not math.isinf(support.high):
    mean, _ = gaussians.values()
    at |= (mean < support.low) | (mean > support.high)
  at = np.flatnonzero(at)
  mean, scale = GridGaussians(gaussians.j[at], gaussians.i[at]).values()
  likeliest, distance = _likeliest(mean, support)
  certain = distance >= CERTAIN * scale
  at = at[certain]
  gaussians.j[at] = support.finest
  gaussians.i[at] = nearest(likeliest[certain] / STEPS[support.finest - FINEST])
  return gaussians


def surely_certain(mean, j, tolerance, support):
  """Where all parameters within the tolerance end up certain of one integer, bool [n].

  Args:
    mean: [n], with errors of up to `tolerance` (scalar or [n]).
    j: [n] the largest index that the scale may get.
  """
  at = np.minimum(j, COARSEST) - FINEST
  _, distance = _likeliest(mean, support)
  return distance - tolerance - STEPS[at] / 2 >= CERTAIN * SCALES[at]


def _likeliest(mean, support):
  """(the likeliest integer, float64; the distance from the mean to the nearest edge of its bin)."""
  integer = np.clip(np.floor(mean + 0.5), support.low, support.high)
  above = np.where(integer < support.high, integer + 0.5 - mean, math.inf)
  below = np.where(integer > support.low, mean - (integer - 0.5), math.inf)
  return integer, np.minimum(above, below)


def logit_index(logits):
  return np.searchsorted(LOGIT_EDGES, logits, side='right').astype(np.int64)


def logit_position(logits):
  return np.interp(logits, LOGITS, np.arange(len(LOGITS)))


# Checks -------------------------------------------------------------------------------------------


def parameter(values, name):
  """float64 [n], finite."""
  values = np.asarray(values, np.float64)
  if values.ndim != 1:
    raise ValueError(f'{name} must be of shape [n], not {list(values.shape)}')
  finite = np.isfinite(values)
  if not finite.all():
    raise ValueError(f'{name} is not finite at {np.sum(~finite)} of {len(values)} positions')
  return values


def parameters(mean, scale):
  """(mean, scale), float64 [n]."""
  mean, scale = parameter(mean, 'mean'), parameter(scale, 'scale')
  if len(mean) != len(scale):
    raise ValueError(f'{len(mean)} means but {len(scale)} scales')
  if len(scale) and scale.min() < 0:
    raise ValueError(f'scale is negative at {np.sum(scale < 0)} of {len(scale)} positions')
  return mean, scale


def integers(values, n, low, high, name='symbols'):
  """int64 [n] of low..high."""
  values = np.asarray(values)
  if values.shape != (n,):
    raise ValueError(f'{name} must be of shape [{n}] like their parameters, not '
                     f'{list(values.shape)}')
  if values.dtype.kind not in 'iub' and n:
    raise ValueError(f'{name} must be integers, not {values.dtype}')
  if n and (values.min() < low or values.max() > high):
    raise ValueError(f'{name} must be in {low}..{high}: found {values.min()}..{values.max()}')
  return values.astype(np.int64)


def checked(tolerance, mean, scale):
  """A `Tolerance` of what may be a float."""
  if not isinstance(tolerance, Tolerance):
    tolerance = Tolerance(tolerance * (scale + abs(mean)), tolerance)
  # Not "< 0", which NaN would pass.
  if not (np.all(np.asarray(tolerance.mean) >= 0) and 0 <= tolerance.log2_scale <= 1):
    raise ValueError('tolerances must be at least 0, and at most one octave of scale')
  # A little more, because sums and products here are rounded too.
  return Tolerance(tolerance.mean * (1 + 1e-6), tolerance.log2_scale * (1 + 1e-6))

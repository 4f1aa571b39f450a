"""Entropy coding of integers, pixels and bits under distributions that a network predicts.

A network computes slightly different floats on another machine, while one differing bit of one
parameter makes a range coder's stream unreadable. So nothing is coded under the floats themselves:

  snap      Parameters are rounded to coarse tables, at a cost of 0.0014 bits per symbol: a scale to
            an index j, the mean to an index i of steps of 1/16 to 1/8 of that scale.
  correct   Where rounding could go either way on another machine, the encoder writes which way it
            went: the low bits of its index, from which a decoder whose own value is close finds it.
  code      The tables' values are exact in float64, and constriction (whose erf is its own, in
            Rust, not the system's) makes of them the same 24-bit probabilities everywhere.

`Writer` and `Reader` do all this in one range coder's stream, in any number of calls; the functions
`encode_*` and `decode_*` are streams of one call. `Stack` is a last-in-first-out coder for
bits-back coding, under parameters that `Writer.gaussians` and `Reader.gaussians` have agreed on.

A Gaussian gives an integer the mass of its bin, from 1/2 below to 1/2 above; if the integers have
bounds, the outermost bins reach to infinity. (So does constriction's QuantizedGaussian, although
its documentation speaks of clipping and normalising.)

Errors: ValueError for arguments that no model should produce (a mean that is not finite, arrays of
different lengths); UserError for bytes that no `Writer` wrote. Damage that looks like another
stream is found only with probability 255/256: a container needs checksums.
"""

import math
from typing import NamedTuple

import constriction
import numpy as np
from scipy.special import log_ndtr

from conv_draw.errors import UserError

AnsCoder = constriction.stream.stack.AnsCoder
RangeDecoder = constriction.stream.queue.RangeDecoder
RangeEncoder = constriction.stream.queue.RangeEncoder
Bernoulli = constriction.stream.model.Bernoulli
QuantizedGaussian = constriction.stream.model.QuantizedGaussian
Uniform = constriction.stream.model.Uniform

# By default, ten times the 1e-6 or so by which float32 networks differ between machines.
TOLERANCE = 1e-5

# Scales are 2^(j / 8). All the numbers that tables are made of are literals or powers of two, since
# pow and exp may differ between systems in the last bit.
PER_OCTAVE = 8
FINEST, COARSEST = -64, 96  # j of the scales 2^-8 and 2^12
FINEST_PIXELS = -32  # 2^-4 levels: a pixel is never certain beyond reason
ROOTS = np.array([  # 2^(k / 8)
    1.0, 1.0905077326652577, 1.189207115002721, 1.2968395546510096,
    1.4142135623730951, 1.5422108254079407, 1.681792830507429, 1.8340080864093424])
HALFWAY = np.array([  # 2^((k + 1/2) / 8)
    1.0442737824274138, 1.1387886347566916, 1.241857812073484, 1.3542555469368927,
    1.4768261459394993, 1.6104903319492543, 1.7562521603732995, 1.9152065613971474])
MEAN_LIMIT = 2.0**24  # where float32 has no fractions left
SYMBOL_LIMIT = 2**31 - 1
HUGE = 1e30  # beyond all limits here, and safe from overflow

# A Gaussian that leaves its likeliest bin with a probability below 2^-29 on either side is as good
# as certain to a coder of 24 bits. All such are snapped to one: the many latents that carry nothing
# then hardly ever need corrections.
CERTAIN = 6  # standard deviations from the mean to the nearest edge

# Logits of bits, in steps that grow as they matter less: their midpoints are exact too.
POSITIVE = [k / 4 for k in range(1, 17)] + [4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0]
LOGITS = np.array([-x for x in POSITIVE[::-1]] + [0.0] + POSITIVE)
LOGIT_EDGES = (LOGITS[1:] + LOGITS[:-1]) / 2
# Rounded to what the coder distinguishes: the last bit of exp does not show (a test makes sure).
PROBABILITIES = np.array([round(2**24 / (1 + math.exp(-x))) for x in LOGITS]) / 2**24

BIT = Uniform(2)
SENTINEL = 0xA5  # the last symbol of a stream, of 256: a stream cut short decodes to another
SENTINELS = Uniform(256)
MAX_WIDTH = 40  # bits of a number in a stream: more than any that a `Writer` writes
DAMAGED = 'damaged data: {}; restore the file from its source'


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


class Snapped(NamedTuple):
  """Parameters of n Gaussians as indices into tables, int64 [n] each."""

  j: np.ndarray  # the scale is 2^(j / 8)
  i: np.ndarray  # the mean is i steps, of 2^(floor(j / 8) - 3)

  def values(self):
    """(mean, scale), float64 [n] each, in units of the grid; exact."""
    return np.ldexp(self.i.astype(np.float64), _step_exponent(self.j)), _scale_of(self.j)


# Snapping -----------------------------------------------------------------------------------------


def snap(mean, scale, support=INTEGERS):
  """Rounds Gaussians to the tables.

  Scales are kept within [2^-8, 2^12] (pixels: from 2^-4), means within 2^24 of 0 or, with bounds,
  within their width outside of them.

  Args:
    mean, scale: [n] finite floats, in units of the grid, scale >= 0.
    support: a `Support`.

  Returns:
    Snapped. This costs 0.0014 bits per symbol on average (relative entropy), 0.006 at most.

  Raises:
    ValueError: if a parameter is not finite, a scale negative, or the shapes are not one [n].
  """
  mean, scale = _parameters(mean, scale)
  mean = _clamp(mean, support)
  j = _scale_index(scale, support)
  return _merge_certain(Snapped(j, _mean_index(mean, j)), support)


def ambiguous(mean, scale, tolerance=TOLERANCE, support=INTEGERS):
  """Where a decoder whose parameters differ within the tolerance may snap differently, bool [n].

  Never False where it could; sometimes True where it cannot, near Gaussians that are certain.
  """
  mean, scale = _parameters(mean, scale)
  tolerance = _checked_tolerance(tolerance, mean, scale)
  scales, _ = _doubtful_scales(mean, scale, tolerance, support)
  means, _ = _doubtful_means(mean, scale, _scale_index(scale, support), tolerance, support)
  return scales | means


def _scale_of(j):
  return np.ldexp(ROOTS[j % PER_OCTAVE], j // PER_OCTAVE)


def _step_exponent(j):
  """Of the means' step: 1/16 to 1/8 of the scale."""
  return j // PER_OCTAVE - 3


def _scale_index(scale, support):
  """The j nearest to 8 log2(scale), by comparisons alone, which are exact."""
  within = np.clip(scale, math.ldexp(1, FINEST // 8 - 1), math.ldexp(1, COARSEST // 8 + 1))
  fraction, exponent = np.frexp(within)  # fraction in [1/2, 1)
  j = PER_OCTAVE * (exponent.astype(np.int64) - 1)
  j += np.searchsorted(HALFWAY, 2 * fraction, side='right')
  return np.clip(j, support.finest, COARSEST)


def _scale_position(scale, support):
  """8 log2(scale), in the same bounds: `_scale_index` before rounding, but not to the last bit."""
  return PER_OCTAVE * np.log2(
      np.clip(scale, *_scale_of(np.array([support.finest, COARSEST]))))


def _mean_position(mean, j):
  return np.ldexp(mean, -_step_exponent(j))


def _mean_index(mean, j):
  return np.floor(_mean_position(mean, j) + 0.5).astype(np.int64)


def _clamp(mean, support):
  """Means far outside the support say no more than those less far."""
  if math.isinf(support.high):
    return np.clip(mean, -MEAN_LIMIT, MEAN_LIMIT)
  margin = support.high - support.low + 1
  return np.clip(mean, support.low - margin, support.high + margin)


def _nearest(mean, support):
  """(the likeliest integer, float64; the distance from the mean to the nearest edge of its bin)."""
  nearest = np.clip(np.floor(mean + 0.5), support.low, support.high)
  above = np.where(nearest < support.high, nearest + 0.5 - mean, math.inf)
  below = np.where(nearest > support.low, mean - (nearest - 0.5), math.inf)
  return nearest, np.minimum(above, below)


def _merge_certain(snapped, support):
  mean, scale = snapped.values()
  nearest, distance = _nearest(mean, support)
  certain = distance >= CERTAIN * scale
  j = np.where(certain, support.finest, snapped.j)
  return Snapped(j, np.where(certain, _mean_index(nearest, j), snapped.i))


def _doubtful_scales(mean, scale, tolerance, support):
  """(where j may be another within the tolerance and it matters, bool [n]; how far at most the
  decoder's position is from the encoder's j, float64 [n])."""
  factor = 2.0**tolerance.log2_scale
  smaller, larger = scale / factor, scale * factor
  low, j, high = (_scale_index(s, support) for s in (smaller, scale, larger))
  away = np.maximum(_scale_position(larger, support) - j, j - _scale_position(smaller, support))
  return (low != high) & ~_surely_certain(mean, high, tolerance, support), away


def _doubtful_means(mean, scale, j, tolerance, support):
  """Likewise for i, where j is agreed on."""
  j_high = _scale_index(scale * 2.0**tolerance.log2_scale, support)
  smaller, larger = (_clamp(mean + sign * tolerance.mean, support) for sign in (-1, 1))
  i = _mean_index(_clamp(mean, support), j)
  doubtful = _mean_index(smaller, j) != _mean_index(larger, j)
  away = np.maximum(_mean_position(larger, j) - i, i - _mean_position(smaller, j))
  return doubtful & ~_surely_certain(mean, j_high, tolerance, support), away


def _surely_certain(mean, j_high, tolerance, support):
  """Where all within the tolerance, rounded, up to the scale of j_high, are merged into one."""
  _, distance = _nearest(_clamp(mean, support), support)
  step = np.ldexp(1.0, _step_exponent(j_high))
  return distance - tolerance.mean - step / 2 >= CERTAIN * _scale_of(j_high)


def _logit_index(logits):
  return np.searchsorted(LOGIT_EDGES, logits, side='right').astype(np.int64)


def _logit_position(logits):
  return np.interp(logits, LOGITS, np.arange(len(LOGITS)))


# Checks -------------------------------------------------------------------------------------------


def _parameter(values, name):
  values = np.asarray(values, np.float64)
  if values.ndim != 1:
    raise ValueError(f'{name} must be of shape [n], not {list(values.shape)}')
  finite = np.isfinite(values)
  if not finite.all():
    raise ValueError(f'{name} is not finite at {np.sum(~finite)} of {len(values)} positions')
  return np.clip(values, -HUGE, HUGE)


def _parameters(mean, scale):
  mean, scale = _parameter(mean, 'mean'), _parameter(scale, 'scale')
  if len(mean) != len(scale):
    raise ValueError(f'{len(mean)} means but {len(scale)} scales')
  if (scale < 0).any():
    raise ValueError(f'scale is negative at {np.sum(scale < 0)} of {len(scale)} positions')
  return mean, scale


def _integers(values, n, low, high, name='symbols'):
  values = np.asarray(values)
  if values.shape != (n,):
    raise ValueError(f'{name} must be of shape [{n}] like their parameters, not '
                     f'{list(values.shape)}')
  if values.dtype.kind not in 'iub' and n:
    raise ValueError(f'{name} must be integers, not {values.dtype}')
  if n and (values.min() < low or values.max() > high):
    raise ValueError(f'{name} must be in {low}..{high}: found {values.min()}..{values.max()}')
  return values.astype(np.int64)


def _checked_tolerance(tolerance, mean, scale):
  if not isinstance(tolerance, Tolerance):
    tolerance = Tolerance(tolerance * (scale + abs(mean)), tolerance)
  error = np.broadcast_to(np.asarray(tolerance.mean, np.float64), mean.shape)
  if not (np.all(error >= 0) and 0 <= tolerance.log2_scale <= 1):
    raise ValueError('tolerances must be at least 0, and at most one octave of scale')
  # A little more, because sums and products here are rounded too.
  return Tolerance(error * (1 + 1e-6), tolerance.log2_scale * (1 + 1e-6))


def _pixel_support(levels):
  if not 2 <= levels <= 2**16:
    raise ValueError(f'levels must be in 2..65536, not {levels}')
  return Support(0, int(levels) - 1, FINEST_PIXELS)


def _bounded_support(low, high):
  if not -(2**23) < low < high < 2**23 or high - low >= 2**20:
    raise ValueError(f'low..high must be two to 2^20 integers around 0, not {low}..{high}')
  return Support(int(low), int(high))


# Models -------------------------------------------------------------------------------------------


class _Bounded(NamedTuple):
  """n Gaussians over the integers low..high, as constriction takes them."""

  model: object
  parameters: tuple

  @classmethod
  def of(cls, snapped, support):
    return cls(QuantizedGaussian(support.low, support.high), snapped.values())


class _Unbounded:
  """n Gaussians over all integers: their likely ones around the mean, and an escape to others.

  Symbols are coded relative to the integer nearest to the mean, -reach..reach, where the ends mean
  escapes. The coder gives every value at least 2^-24, which would add up if all reached as far as
  the broadest Gaussian needs; so each octave of scales has a reach of its own, of 8 to 16 standard
  deviations. That takes 2.8e-6 bits per symbol of scales up to 2, and 0.006 of the broadest.
  """

  def __init__(self, snapped):
    mean, self._scale = snapped.values()
    self.nearest = np.floor(mean + 0.5)
    self._offset = mean - self.nearest
    self.nearest = self.nearest.astype(np.int64)
    octaves = -(-snapped.j // PER_OCTAVE)
    self.reach = np.int64(8) << np.maximum(octaves, 1)

  def groups(self):
    """Yields (positions, model, parameters) for each reach, in order."""
    for reach in np.unique(self.reach).tolist():
      at = np.flatnonzero(self.reach == reach)
      yield at, QuantizedGaussian(-reach, reach), (self._offset[at], self._scale[at])


# Streams ------------------------------------------------------------------------------------------


class Writer:
  """Writes a stream; a `Reader` makes the same calls in the same order.

  Means and scales are [n] finite floats; `tolerance` is a float or `Tolerance`.
  """

  def __init__(self):
    self._encoder = RangeEncoder()

  def integers(self, symbols, mean, scale, tolerance=TOLERANCE):
    """Integers [n] in +-(2^31 - 1) under Gaussians in the same units."""
    mean, scale = _parameters(mean, scale)
    symbols = _integers(symbols, len(mean), -SYMBOL_LIMIT, SYMBOL_LIMIT)
    models = _Unbounded(self._snap(mean, scale, tolerance, INTEGERS))
    self._unbounded(symbols, models)

  def pixels(self, values, mean, scale, levels=256, tolerance=TOLERANCE):
    """Integers [n] of 0..levels-1 under Gaussians in the same units."""
    mean, scale = _parameters(mean, scale)
    support = _pixel_support(levels)
    values = _integers(values, len(mean), 0, levels - 1, 'pixels')
    model = _Bounded.of(self._snap(mean, scale, tolerance, support), support)
    self.encode(values, model.model, *model.parameters)

  def bits(self, values, logits, tolerance=TOLERANCE):
    """Values [n] of 0 and 1, of which 1 has the probability sigmoid(logit).

    Of a float t as `tolerance`, logits have an error of t (1 + |logit|).
    """
    logits = _parameter(logits, 'logits')
    values = _integers(values, len(logits), 0, 1, 'bits')
    self.encode(values, Bernoulli(perfect=False), self.logits(logits, tolerance))

  def gaussians(self, mean, scale, tolerance=TOLERANCE, levels=None):
    """Agrees with the decoder on parameters, to use with a `Stack`.

    Args:
      levels: of pixels; None for integers.

    Returns:
      (mean, scale), float64 [n], of which `Reader.gaussians` returns the very same.
    """
    mean, scale = _parameters(mean, scale)
    support = INTEGERS if levels is None else _pixel_support(levels)
    return self._snap(mean, scale, tolerance, support).values()

  def logits(self, logits, tolerance=TOLERANCE):
    """Likewise for logits [n] of bits. Returns probabilities of 1, float64 [n]."""
    logits = _parameter(logits, 'logits')
    tolerance = _checked_tolerance(tolerance, logits, np.ones_like(logits))
    smaller, larger = logits - tolerance.mean, logits + tolerance.mean
    index = _logit_index(logits)
    away = np.maximum(_logit_position(larger) - index, index - _logit_position(smaller))
    self._corrections(index, _logit_index(smaller) != _logit_index(larger), away)
    return PROBABILITIES[index]

  def to_bytes(self):
    """The stream so far, b'' if nothing was written; about 2 bytes more than was written."""
    if self._encoder.is_empty():
      return b''
    encoder = self._encoder.clone()
    encoder.encode(SENTINEL, SENTINELS)
    return _shortest(encoder)

  def encode(self, symbols, model, *parameters):
    """Symbols [n] under constriction's `model`, of which parameters are checked already."""
    if len(symbols):
      self._encoder.encode(np.ascontiguousarray(symbols, np.int32), model, *parameters)

  def _snap(self, mean, scale, tolerance, support):
    tolerance = _checked_tolerance(tolerance, mean, scale)
    j = _scale_index(scale, support)
    self._corrections(j, *_doubtful_scales(mean, scale, tolerance, support))
    i = _mean_index(_clamp(mean, support), j)
    self._corrections(i, *_doubtful_means(mean, scale, j, tolerance, support))
    return _merge_certain(Snapped(j, i), support)

  def _corrections(self, index, doubtful, away):
    """Low bits of `index` where doubtful, as many as tell it from others as far `away`."""
    count = np.sum(doubtful)
    if len(index):
      self._numbers(np.array([count]))
    if not count:
      return
    # The multiple of 2^width that is nearest to the decoder's position must be the right one. A
    # margin makes this insensitive to the rounding of positions.
    width = max(1, math.frexp(2 * away[doubtful].max() + 0.01)[1])
    self._numbers(np.array([width]))
    self.encode(doubtful, Bernoulli(count / len(index), perfect=False))
    self._raw(index[doubtful] & (2**width - 1), width)

  def _unbounded(self, symbols, models):
    relative = symbols - models.nearest
    for at, model, parameters in models.groups():
      reach = models.reach[at]
      self.encode(np.clip(relative[at], -reach, reach), model, *parameters)
    beyond = abs(relative) - models.reach
    self._numbers(beyond[beyond >= 0])

  def _numbers(self, values):
    """Non-negative int64 [n], in Exp-Golomb codes: 2 log2(value + 1) + 1 bits."""
    widths = np.frexp(values + 1.0)[1] - 1
    for width in range(widths.max(initial=-1) + 1):
      self.encode(widths[widths >= width] > width, BIT)
    for width in np.unique(widths[widths > 0]).tolist():
      self._raw(values[widths == width] + 1 - 2**width, width)

  def _raw(self, values, width):
    """The low `width` bits of int64 [n]."""
    self.encode((values[:, None] >> np.arange(width) & 1).ravel(), BIT)


class Reader:
  """Reads what a `Writer` wrote, if parameters differ by no more than its tolerance.

  All that is read is written again to a `Writer` of its own, so that `finish` can tell whether
  these are bytes that a Writer writes. Before `finish` has returned, symbols are not to be trusted.
  """

  def __init__(self, data):
    self._data = bytes(data)
    words = np.frombuffer(self._data + bytes(-len(self._data) % 4), '>u4').astype(np.uint32)
    self._decoder = RangeDecoder(words)
    self._copy = Writer()

  def integers(self, mean, scale):
    """Returns int64 [n]."""
    return self._unbounded(_Unbounded(self._snap(*_parameters(mean, scale), INTEGERS)))

  def pixels(self, mean, scale, levels=256):
    """Returns uint8 [n], or uint16 if levels > 256."""
    support = _pixel_support(levels)
    model = _Bounded.of(self._snap(*_parameters(mean, scale), support), support)
    values = self.decode(len(model.parameters[0]), model.model, *model.parameters)
    return values.astype(np.uint8 if levels <= 256 else np.uint16)

  def bits(self, logits):
    """Returns uint8 [n]."""
    probabilities = self.logits(logits)
    return self.decode(
        len(probabilities), Bernoulli(perfect=False), probabilities).astype(np.uint8)

  def gaussians(self, mean, scale, levels=None):
    """See `Writer.gaussians`."""
    support = INTEGERS if levels is None else _pixel_support(levels)
    return self._snap(*_parameters(mean, scale), support).values()

  def logits(self, logits):
    """See `Writer.logits`."""
    logits = _parameter(logits, 'logits')
    index = self._corrections(_logit_index(logits), _logit_position(logits))
    return PROBABILITIES[np.clip(index, 0, len(LOGITS) - 1)]

  def finish(self):
    """Raises UserError unless exactly the whole stream has been read."""
    if self._copy.to_bytes() != self._data:
      raise UserError(DAMAGED.format(f'{len(self._data)} bytes are not a whole stream'))

  def decode(self, n, model, *parameters):
    """n symbols under constriction's `model`, int64, of which parameters are checked already."""
    if not n:
      return np.zeros(0, np.int64)
    symbols = _guarded(self._decoder.decode, model, *(parameters or (n,)))
    self._copy.encode(symbols, model, *parameters)
    return symbols.astype(np.int64)

  def _snap(self, mean, scale, support):
    mean = _clamp(mean, support)
    j = self._corrections(_scale_index(scale, support), _scale_position(scale, support))
    j = np.clip(j, support.finest, COARSEST)
    i = self._corrections(_mean_index(mean, j), _mean_position(mean, j))
    return _merge_certain(Snapped(j, i), support)

  def _corrections(self, index, position):
    """The encoder's index, from the decoder's and from its `position` before rounding, [n]."""
    count = self._numbers(1)[0] if len(index) else 0
    if not count:
      return index
    if count > len(index):
      raise UserError(DAMAGED.format(f'{count} corrections of {len(index)} parameters'))
    width = int(self._numbers(1)[0])
    if not 1 <= width <= MAX_WIDTH:
      raise UserError(DAMAGED.format(f'corrections of {width} bits'))
    doubtful = self.decode(len(index), Bernoulli(count / len(index), perfect=False)) == 1
    if np.sum(doubtful) != count:
      raise UserError(DAMAGED.format(f'{np.sum(doubtful)} corrections instead of {count}'))
    low = self._raw(count, width)
    index = index.copy()
    index[doubtful] = low + (np.rint((position[doubtful] - low) / 2**width) * 2**width).astype(
        np.int64)
    return index

  def _unbounded(self, models):
    relative = np.zeros(len(models.nearest), np.int64)
    for at, model, parameters in models.groups():
      relative[at] = self.decode(len(at), model, *parameters)
    beyond = abs(relative) == models.reach
    relative[beyond] += np.sign(relative[beyond]) * self._numbers(np.sum(beyond))
    symbols = models.nearest + relative
    if (abs(symbols) > SYMBOL_LIMIT).any():
      raise UserError(DAMAGED.format('a symbol is out of range'))
    return symbols

  def _numbers(self, n):
    widths = np.zeros(n, np.int64)
    longer = np.arange(n)
    while longer.size:
      longer = longer[self.decode(longer.size, BIT) == 1]
      widths[longer] += 1
      if widths.max() > MAX_WIDTH:
        raise UserError(DAMAGED.format('a number is too large'))
    values = np.zeros(n, np.int64)
    for width in np.unique(widths[widths > 0]).tolist():
      at = widths == width
      values[at] = self._raw(np.sum(at), width) + 2**width - 1
    return values

  def _raw(self, n, width):
    bits = self.decode(int(n) * width, BIT).reshape(int(n), width)
    return (bits << np.arange(width)).sum(axis=1)


def _guarded(call, *arguments):
  """What constriction finds wrong with its data, as a UserError."""
  try:
    return call(*arguments)
  except BaseException as error:
    # Panics of Rust are no `Exception`s, nor has their class a public name.
    if isinstance(error, AssertionError) or type(error).__name__ == 'PanicException':
      raise UserError(DAMAGED.format('no symbols could be decoded')) from None
    raise


def _shortest(encoder):
  """The fewest bytes that a decoder, which reads zeros after the end, takes for the stream.

  constriction ends streams with one or two words of 32 bits, good for whatever follows them.
  """
  words = encoder.get_compressed()
  position, (lower, span) = encoder.pos()  # lower: 64 bits from word `position` on, less carries
  words = np.append(words, np.zeros(max(0, position + 2 - len(words)), np.uint32))[: position + 2]
  point = int.from_bytes(words.astype('>u4').tobytes(), 'big')
  low = point - (point - lower) % 2**64  # the stream is any number of [low, low + span)
  size = 4 * (position + 2)
  for kept in range(max(0, size - 8), size + 1):
    unit = 2 ** (8 * (size - kept))
    number = -(-low // unit)
    if number * unit < low + span:
      break
  return number.to_bytes(kept, 'big').rstrip(b'\0')


def encode_integers(symbols, mean, scale, tolerance=TOLERANCE):
  """`Writer.integers` as bytes; b'' if n = 0."""
  writer = Writer()
  writer.integers(symbols, mean, scale, tolerance)
  return writer.to_bytes()


def decode_integers(data, mean, scale):
  """The inverse of `encode_integers`: int64 [n]. Raises UserError if no stream."""
  reader = Reader(data)
  symbols = reader.integers(mean, scale)
  reader.finish()
  return symbols


def encode_pixels(values, mean, scale, levels=256, tolerance=TOLERANCE):
  """`Writer.pixels` as bytes; b'' if n = 0."""
  writer = Writer()
  writer.pixels(values, mean, scale, levels, tolerance)
  return writer.to_bytes()


def decode_pixels(data, mean, scale, levels=256):
  """The inverse of `encode_pixels`: uint8 [n] (uint16). Raises UserError if no stream."""
  reader = Reader(data)
  values = reader.pixels(mean, scale, levels)
  reader.finish()
  return values


def encode_bits(values, logits, tolerance=TOLERANCE):
  """`Writer.bits` as bytes; b'' if n = 0."""
  writer = Writer()
  writer.bits(values, logits, tolerance)
  return writer.to_bytes()


def decode_bits(data, logits):
  """The inverse of `encode_bits`: uint8 [n]. Raises UserError if no stream."""
  reader = Reader(data)
  values = reader.bits(logits)
  reader.finish()
  return values


# Code lengths -------------------------------------------------------------------------------------


def code_length_bits(symbols, mean, scale):
  """-log2 of the snapped Gaussians' masses of integers [n], summed: what their stream should take.

  Far out in the tails streams take less, because the coder gives no value less than 2^-24.
  """
  return _gaussian_bits(symbols, mean, scale, INTEGERS)


def pixel_code_length_bits(values, mean, scale, levels=256):
  """Likewise for pixels [n]."""
  return _gaussian_bits(values, mean, scale, _pixel_support(levels))


def bit_code_length_bits(values, logits):
  """Likewise for bits [n]."""
  logits = _parameter(logits, 'logits')
  values = _integers(values, len(logits), 0, 1, 'bits')
  probability = PROBABILITIES[_logit_index(logits)]
  return float(-np.log2(np.where(values == 1, probability, 1 - probability)).sum())


def _gaussian_bits(symbols, mean, scale, support):
  mean, scale = snap(mean, scale, support).values()
  symbols = _integers(symbols, len(mean), max(support.low, -SYMBOL_LIMIT),
                      min(support.high, SYMBOL_LIMIT))
  above = np.where(symbols < support.high, (symbols + 0.5 - mean) / scale, math.inf)
  below = np.where(symbols > support.low, (symbols - 0.5 - mean) / scale, -math.inf)
  # In the lower tail, where log Phi is accurate.
  flip = below > 0
  above, below = np.where(flip, -below, above), np.where(flip, -above, below)
  log_above = log_ndtr(above)
  log_mass = log_above + np.log(-np.expm1(log_ndtr(below) - log_above))
  return float(-log_mass.sum() / math.log(2)) + 0.0  # not -0.0


# Bits-back ----------------------------------------------------------------------------------------


class Stack:
  """A last-in-first-out coder, in which popping is sampling: `pop` and `push` undo each other.

  Parameters are snapped here too, but without corrections: on another machine than the encoder's
  they must come from `Reader.gaussians` and `Reader.logits`. An `exact` stack does not snap: its
  rate is a little better, and it can only be undone under the very same parameters.
  """

  def __init__(self, initial_words, exact=False):
    """
    Args:
      initial_words: [>= 1] uint32, random or of other compressed data: what is popped before
        anything is pushed. `initial_words` gives them back after all else is popped.
    """
    words = np.asarray(initial_words)
    if words.ndim != 1 or not len(words) or words.dtype != np.uint32:
      raise ValueError('initial_words must be one or more uint32')
    self._coder, self._exact = AnsCoder(np.ascontiguousarray(words), seal=True), exact

  @classmethod
  def from_bytes(cls, data, exact=False):
    """The inverse of `to_bytes`. Raises UserError if that never returned such data."""
    data = bytes(data)
    words = np.frombuffer(data + bytes(-len(data) % 4), '<u4').astype(np.uint32)
    if len(words) < 2 or not data[-1]:
      raise UserError(DAMAGED.format(f'{len(data)} bytes are not a stack'))
    stack = cls.__new__(cls)
    stack._coder, stack._exact = AnsCoder(words), exact
    return stack

  def to_bytes(self):
    return self._coder.get_compressed().astype('<u4').tobytes().rstrip(b'\0')

  def initial_words(self):
    """What the stack was made of, uint32. Raises UserError unless that is all there is on it."""
    words = self._coder.get_compressed()
    if words[-1] != 1:
      raise UserError(DAMAGED.format('the stack does not end where it began'))
    return words[:-1]

  def bits(self):
    """The current size; `to_bytes` rounds up."""
    return self._coder.num_valid_bits()

  def push(self, symbols, mean, scale, low, high):
    """Integers [n] of low..high under Gaussians in the same units; their order is kept."""
    self._push(symbols, mean, scale, _bounded_support(low, high))

  def pop(self, mean, scale, low, high):
    """Returns int64 [n]. Raises UserError if the stack has run out of bits."""
    return self._pop(mean, scale, _bounded_support(low, high))

  def push_pixels(self, values, mean, scale, levels=256):
    """Integers [n] of 0..levels-1 under Gaussians in the same units, as `Writer.pixels`."""
    self._push(values, mean, scale, _pixel_support(levels))

  def pop_pixels(self, mean, scale, levels=256):
    return self._pop(mean, scale, _pixel_support(levels)).astype(
        np.uint8 if levels <= 256 else np.uint16)

  def push_bits(self, values, probabilities):
    """Values [n] of 0 and 1, with the probabilities of 1 that `Writer.logits` returns."""
    probabilities = _probabilities(probabilities)
    values = _integers(values, len(probabilities), 0, 1, 'bits')
    self._coder.encode_reverse(values.astype(np.int32), Bernoulli(perfect=False), probabilities)

  def pop_bits(self, probabilities):
    probabilities = _probabilities(probabilities)
    return self._taken(Bernoulli(perfect=False), probabilities).astype(np.uint8)

  def _push(self, symbols, mean, scale, support):
    model, parameters = self._gaussians(mean, scale, support)
    symbols = _integers(symbols, len(parameters[0]), support.low, support.high)
    self._coder.encode_reverse(symbols.astype(np.int32), model, *parameters)

  def _pop(self, mean, scale, support):
    model, parameters = self._gaussians(mean, scale, support)
    return self._taken(model, *parameters).astype(np.int64)

  def _gaussians(self, mean, scale, support):
    bounded = _Bounded.of(snap(mean, scale, support), support)
    if not self._exact:
      return bounded
    mean, scale = _parameters(mean, scale)
    scale = np.clip(scale, *np.ldexp(1.0, [support.finest // PER_OCTAVE, COARSEST // PER_OCTAVE]))
    return bounded._replace(parameters=(_clamp(mean, support), scale))

  def _taken(self, model, *parameters):
    symbols = _guarded(self._coder.decode, model, *parameters)
    # With the seal and one word beneath it gone, symbols are no longer random, nor restored.
    if self._coder.num_words() < 2:
      raise UserError('the stack ran out of bits: give it more initial words')
    return symbols


def _probabilities(values):
  values = _parameter(values, 'probabilities')
  if not ((values > 0) & (values < 1)).all():
    raise ValueError('probabilities must be between 0 and 1')
  return values

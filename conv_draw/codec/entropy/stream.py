"""Streams of integers, pixels and bits, coded under distributions that a network predicts.

`Writer` codes any number of arrays into one range coder's stream, under parameters that it snaps
and, where in doubt, corrects (see `snapping`); `Reader` takes them in the same order. What a writer
puts and a reader takes, `stack.Stack` does by the same names.

Errors: ValueError for arguments that no model should produce (a mean that is not finite, arrays of
different lengths); UserError for bytes that no `Writer` wrote. Damage that looks like another
stream is found only with probability 255/256: a container needs checksums.
"""

import math

import constriction
import numpy as np

from conv_draw.codec.entropy import distributions, snapping
from conv_draw.codec.entropy.distributions import SYMBOL_LIMIT, Bernoulli, Uniform
from conv_draw.codec.entropy.snapping import COARSEST, INTEGERS, PER_OCTAVE, Snapped
from conv_draw.errors import UserError

RangeDecoder = constriction.stream.queue.RangeDecoder
RangeEncoder = constriction.stream.queue.RangeEncoder

# By default: about the most by which float32 networks were seen to differ (FORMAT.md).
TOLERANCE = 5e-6

BIT = Uniform(2)
SENTINEL = 0xA5  # the last symbol of a stream, of 256: a stream cut short decodes to another
SENTINELS = Uniform(256)
MAX_WIDTH = 40  # bits of a number in a stream: more than any that a `Writer` writes


class Undecodable(UserError):
  """What is no stream under these parameters: damaged data, or parameters that differ too much."""

  def __init__(self, what):
    super().__init__(f'damaged data: {what}; restore the file from its source')


class Writer:
  """Writes a stream; a `Reader` takes in the same order what was put.

  Means and scales are [n] finite floats; `tolerance` is a float or `Tolerance`.
  """

  corrects = True  # for readers whose parameters differ a little

  def __init__(self):
    self._encoder = RangeEncoder()

  def ordered(self, parts):
    """Parts in the order in which to put them, so that they are taken in the order given."""
    return parts

  def put_integers(self, symbols, mean, scale, tolerance=TOLERANCE):
    """Integers [n] in +-(2^31 - 1) under Gaussians in the same units."""
    mean, scale = snapping.parameters(mean, scale)
    symbols = snapping.integers(symbols, len(mean), -SYMBOL_LIMIT, SYMBOL_LIMIT)
    snapped = self._snap(mean, scale, tolerance, INTEGERS)
    self._unbounded(symbols, distributions.UnboundedGaussians(snapped))

  def put_pixels(self, values, mean, scale, grey_levels=256, tolerance=TOLERANCE):
    """Integers [n] of 0..grey_levels-1 under Gaussians in the same units."""
    mean, scale = snapping.parameters(mean, scale)
    support = snapping.pixel_support(grey_levels)
    values = snapping.integers(values, len(mean), 0, grey_levels - 1, 'pixels')
    snapped = self._snap(mean, scale, tolerance, support)
    model, parameters = distributions.pixel_model(snapped, grey_levels)
    self.encode(values, model, *parameters)

  def put_bits(self, values, logits, tolerance=TOLERANCE):
    """Values [n] of 0 and 1, of which 1 has the probability sigmoid(logit).

    Of a float t as `tolerance`, logits have an error of t (1 + |logit|).
    """
    logits = snapping.parameter(logits, 'logits')
    values = snapping.integers(values, len(logits), 0, 1, 'bits')
    tolerance = snapping.checked(tolerance, logits, 1.0).mean
    low, index, high = (
        snapping.logit_index(x) for x in (logits - tolerance, logits, logits + tolerance))
    at = np.flatnonzero(low != high)
    error = np.broadcast_to(tolerance, logits.shape)[at]
    edges = [snapping.logit_position(logits[at] + sign * error) for sign in (-1, 1)]
    away = np.maximum(index[at] - edges[0], edges[1] - index[at]) + snapping.SLACK
    self._corrections(index, at, away)
    self.encode(values, Bernoulli(perfect=False), snapping.PROBABILITIES[index])

  def put_nearest(self, position, error):
    """The whole numbers nearest to positions [n], which a reader's are off by up to `error`: int64.

    Only what is in doubt is written.
    """
    position = snapping.parameter(position, 'positions')
    index = snapping.nearest(position)
    self._corrections(index, *snapping.doubt(position, index, error))
    return index

  def to_bytes(self):
    """The stream so far, b'' if nothing was written; about 2 bytes more than was written."""
    if self._encoder.is_empty():
      return b''
    encoder = self._encoder.clone()
    encoder.encode(SENTINEL, SENTINELS)
    return _shortest(encoder)

  def words(self):
    """How many words of 32 bits are settled."""
    return self._encoder.num_words()

  def encode(self, symbols, model, *parameters):
    """Symbols [n] under constriction's `model`, of which parameters are checked already."""
    if len(symbols):
      self._encoder.encode(np.ascontiguousarray(symbols, np.int32), model, *parameters)

  def _snap(self, mean, scale, tolerance, support):
    tolerance = snapping.checked(tolerance, mean, scale)
    error = np.broadcast_to(np.asarray(tolerance.mean, np.float64), mean.shape)
    position = snapping.scale_position(scale, support)
    j = snapping.nearest(position)

    def matters(at, away):
      unsure = ~snapping.surely_certain(mean[at], j[at] + 1, error[at], support)
      return at[unsure], away[unsure]

    self._corrections(
        j, *matters(*snapping.doubt(position, j, PER_OCTAVE * tolerance.log2_scale)))
    position = snapping.mean_position(mean, j, support)
    i = snapping.nearest(position)
    steps = snapping.STEPS[j - snapping.FINEST]
    self._corrections(i, *matters(*snapping.doubt(position, i, error / steps)))
    return snapping.merge_certain(Snapped(j, i), support)

  def _corrections(self, index, places, away):
    """Low bits of `index` at `places`, as many as tell it from others as far `away`."""
    count = len(places)
    if len(index):
      self._numbers(np.array([count]))
    if not count:
      return
    # The multiple of 2^width that is nearest to the decoder's position must be the right one. A
    # margin makes this insensitive to the rounding of positions.
    width = max(1, math.frexp(2 * away.max() + 0.01)[1])
    self._numbers(np.array([width]))
    doubtful = np.zeros(len(index), np.int32)
    doubtful[places] = 1
    self.encode(doubtful, Bernoulli(count / len(index), perfect=False))
    self._raw(index[places] & (2**width - 1), width)

  def _unbounded(self, symbols, gaussians):
    relative = symbols - gaussians.nearest
    for reach, at, model, parameters in gaussians.models():
      self.encode(np.clip(relative[at], -reach, reach), model, *parameters)
    self._numbers(gaussians.excess(relative))

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

  def take_integers(self, mean, scale):
    """Returns int64 [n]."""
    snapped = self._snap(*snapping.parameters(mean, scale), INTEGERS)
    return self._unbounded(distributions.UnboundedGaussians(snapped))

  def take_pixels(self, mean, scale, grey_levels=256):
    """Returns uint8 [n], or uint16 if grey_levels > 256."""
    support = snapping.pixel_support(grey_levels)
    snapped = self._snap(*snapping.parameters(mean, scale), support)
    model, parameters = distributions.pixel_model(snapped, grey_levels)
    values = self.decode(len(snapped.j), model, *parameters)
    return values.astype(np.uint8 if grey_levels <= 256 else np.uint16)

  def take_bits(self, logits):
    """Returns uint8 [n]."""
    logits = snapping.parameter(logits, 'logits')
    index = self._corrections(snapping.logit_index(logits), snapping.logit_position(logits))
    probabilities = snapping.PROBABILITIES[np.clip(index, 0, len(snapping.LOGITS) - 1)]
    return self.decode(len(logits), Bernoulli(perfect=False), probabilities).astype(np.uint8)

  def take_nearest(self, position):
    """Returns what `put_nearest` did, int64 [n]."""
    position = snapping.parameter(position, 'positions')
    return self._corrections(snapping.nearest(position), position)

  def finish(self):
    """Raises UserError unless exactly the whole stream has been read."""
    if self._copy.to_bytes() != self._data:
      raise Undecodable(f'{len(self._data)} bytes are not a whole stream')

  def decode(self, n, model, *parameters):
    """n symbols under constriction's `model`, int64, of which parameters are checked already."""
    if not n:
      return np.zeros(0, np.int64)
    symbols = guarded(self._decoder.decode, model, *(parameters or (n,)))
    self._copy.encode(symbols, model, *parameters)
    if self._copy.words() > len(self._data) // 4 + 2:  # do not read zeros for hours
      raise Undecodable(f'a stream should go on after {len(self._data)} bytes')
    return symbols.astype(np.int64)

  def _snap(self, mean, scale, support):
    position = snapping.scale_position(scale, support)
    j = self._corrections(snapping.nearest(position), position)
    j = np.clip(j, support.finest, COARSEST)
    position = snapping.mean_position(mean, j, support)
    i = self._corrections(snapping.nearest(position), position)
    return snapping.merge_certain(Snapped(j, i), support)

  def _corrections(self, index, position):
    """The encoder's index, from the decoder's and from its `position` before rounding, [n]."""
    count = self._numbers(1)[0] if len(index) else 0
    if not count:
      return index
    if count > len(index):
      raise Undecodable(f'{count} corrections of {len(index)} parameters')
    width = int(self._numbers(1)[0])
    if not 1 <= width <= MAX_WIDTH:
      raise Undecodable(f'corrections of {width} bits')
    doubtful = self.decode(len(index), Bernoulli(count / len(index), perfect=False)) == 1
    if np.sum(doubtful) != count:
      raise Undecodable(f'{np.sum(doubtful)} corrections instead of {count}')
    low = self._raw(count, width)
    index = index.copy()
    index[doubtful] = low + (np.rint((position[doubtful] - low) / 2**width) * 2**width).astype(
        np.int64)
    return index

  def _unbounded(self, gaussians):
    relative = np.zeros(len(gaussians.nearest), np.int64)
    escapes = np.zeros(len(relative), bool)
    for reach, at, model, parameters in gaussians.models():
      relative[at] = found = self.decode(len(at), model, *parameters)
      escapes[at] = abs(found) == reach
    escapes = np.flatnonzero(escapes)
    relative[escapes] += np.sign(relative[escapes]) * self._numbers(len(escapes))
    symbols = gaussians.nearest + relative
    if (abs(symbols) > SYMBOL_LIMIT).any():
      raise Undecodable('a symbol is out of range')
    return symbols

  def _numbers(self, n):
    widths = np.zeros(n, np.int64)
    longer = np.arange(n)
    while longer.size:
      longer = longer[self.decode(longer.size, BIT) == 1]
      widths[longer] += 1
      if widths.max() > MAX_WIDTH:
        raise Undecodable('a number is too large')
    values = np.zeros(n, np.int64)
    for width in np.unique(widths[widths > 0]).tolist():
      at = widths == width
      values[at] = self._raw(np.sum(at), width) + 2**width - 1
    return values

  def _raw(self, n, width):
    if n * width > 8 * len(self._data) + 64:
      raise Undecodable(f'{n} numbers of {width} bits in {len(self._data)} bytes')
    bits = self.decode(int(n) * width, BIT).reshape(int(n), width)
    return (bits << np.arange(width)).sum(axis=1)


def guarded(call, *arguments):
  """What constriction finds wrong with its data, as a UserError."""
  try:
    return call(*arguments)
  except BaseException as error:
    # Panics of Rust are no `Exception`s, nor has their class a public name.
    if isinstance(error, AssertionError) or type(error).__name__ == 'PanicException':
      raise Undecodable('no symbols could be decoded') from None
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

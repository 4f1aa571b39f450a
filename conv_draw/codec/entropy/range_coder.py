"""Range coding of integers, pixels and bits under distributions that a network predicts.

`Writer` codes any number of arrays into one stream, under parameters that it rounds to the
`parameter_grid`, with side information where that is ambiguous; `Reader` takes them in the same
order. `lifo_ans.AnsStack` has the same methods for pixels and bits, and takes bounded integers.

Errors: ValueError for arguments that no model should produce (a mean that is not finite, arrays of
different lengths); UserError for bytes that no `Writer` wrote. Damage that looks like another
stream is found only with probability 255/256: a container needs checksums.
"""

import math

import constriction
import numpy as np

from conv_draw.codec.entropy import distributions
from conv_draw.codec.entropy import parameter_grid as grid
from conv_draw.codec.entropy.distributions import SYMBOL_LIMIT, Bernoulli, Uniform
from conv_draw.codec.entropy.parameter_grid import COARSEST, INTEGERS, PER_OCTAVE, GridGaussians
from conv_draw.errors import UserError

RangeDecoder = constriction.stream.queue.RangeDecoder
RangeEncoder = constriction.stream.queue.RangeEncoder

# By default: about the largest measured difference of float32 networks (FORMAT.md).
TOLERANCE = 5e-6

BIT = Uniform(2)
SENTINEL = 0xA5  # the last symbol of a stream, of 256: a stream cut short decodes to another
SENTINELS = Uniform(256)
MAX_WIDTH = 40  # bits of a number in a stream: more than any that a `Writer` writes


class Undecodable(UserError):
  """The data are no stream under these parameters: damaged, or parameters that differ too much."""

  def __init__(self, what):
    super().__init__(f'damaged data: {what}; restore the file from its source')


class Writer:
  """Writes a stream; a `Reader` takes in the same order what was put.

  Means and scales are [n] finite floats; `tolerance` is a float or `Tolerance`.
  """

  def __init__(self):
    self._encoder = RangeEncoder()

  def put_integers(self, symbols, mean, scale, tolerance=TOLERANCE):
    """Integers [n] in +-(2^31 - 1) under Gaussians in the same units."""
    mean, scale = grid.parameters(mean, scale)
    symbols = grid.integers(symbols, len(mean), -SYMBOL_LIMIT, SYMBOL_LIMIT)
    gaussians = self._round(mean, scale, tolerance, INTEGERS)
    self._unbounded(symbols, distributions.UnboundedGaussians(gaussians))

  def put_pixels(self, values, mean, scale, grey_levels=256, tolerance=TOLERANCE):
    """Integers [n] of 0..grey_levels-1 under Gaussians in the same units."""
    mean, scale = grid.parameters(mean, scale)
    support = grid.pixel_support(grey_levels)
    values = grid.integers(values, len(mean), 0, grey_levels - 1, 'pixels')
    gaussians = self._round(mean, scale, tolerance, support)
    model, parameters = distributions.pixel_model(gaussians, grey_levels)
    self.encode(values, model, *parameters)

  def put_bits(self, values, logits, tolerance=TOLERANCE):
    """Values [n] of 0 and 1, of which 1 has the probability sigmoid(logit).

    Of a float t as `tolerance`, logits have an error of t (1 + |logit|).
    """
    logits = grid.parameter(logits, 'logits')
    values = grid.integers(values, len(logits), 0, 1, 'bits')
    tolerance = grid.checked(tolerance, logits, 1.0).mean
    low, index, high = (
        grid.logit_index(x) for x in (logits - tolerance, logits, logits + tolerance))
    at = np.flatnonzero(low != high)
    error = np.broadcast_to(tolerance, logits.shape)[at]
    edges = [grid.logit_position(logits[at] + sign * error) for sign in (-1, 1)]
    away = np.maximum(index[at] - edges[0], edges[1] - index[at]) + grid.SLACK
    self._side_information(index, at, away)
    self.encode(values, Bernoulli(perfect=False), grid.PROBABILITIES[index])

  def to_bytes(self):
    """The stream so far, b'' if nothing was written; about 2 bytes more than was written."""
    if self._encoder.is_empty():
      return b''
    encoder = self._encoder.clone()
    encoder.encode(SENTINEL, SENTINELS)
    return _shortest(encoder)

  def words(self):
    """The number of 32-bit words that are final."""
    return self._encoder.num_words()

  def encode(self, symbols, model, *parameters):
    """Symbols [n] under constriction's `model`, of which parameters are checked already."""
    if len(symbols):
      self._encoder.encode(np.ascontiguousarray(symbols, np.int32), model, *parameters)

  def _round(self, mean, scale, tolerance, support):
    tolerance = grid.checked(tolerance, mean, scale)
    error = np.broadcast_to(np.asarray(tolerance.mean, np.float64), mean.shape)
    position = grid.scale_position(scale, support)
    j = grid.nearest(position)

    def matters(at, away):
      unsure = ~grid.surely_certain(mean[at], j[at] + 1, error[at], support)
      return at[unsure], away[unsure]

    self._side_information(
        j, *matters(*grid.ambiguous(position, j, PER_OCTAVE * tolerance.log2_scale)))
    position = grid.mean_position(mean, j, support)
    i = grid.nearest(position)
    steps = grid.STEPS[j - grid.FINEST]
    self._side_information(i, *matters(*grid.ambiguous(position, i, error / steps)))
    return grid.merge_certain(GridGaussians(j, i), support)

  def _side_information(self, index, places, away):
    """Writes the low bits of `index` at `places`, enough to tell it from others so far `away`."""
    count = len(places)
    if len(index):
      self._numbers(np.array([count]))
    if not count:
      return
    # The multiple of 2^width that is nearest to the decoder's position must be the right one. A
    # margin makes this insensitive to the rounding of positions.
    width = max(1, math.frexp(2 * away.max() + 0.01)[1])
    self._numbers(np.array([width]))
    ambiguous = np.zeros(len(index), np.int32)
    ambiguous[places] = 1
    self.encode(ambiguous, Bernoulli(count / len(index), perfect=False))
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
    gaussians = self._round(*grid.parameters(mean, scale), INTEGERS)
    return self._unbounded(distributions.UnboundedGaussians(gaussians))

  def take_pixels(self, mean, scale, grey_levels=256):
    """Returns uint8 [n], or uint16 if grey_levels > 256."""
    support = grid.pixel_support(grey_levels)
    gaussians = self._round(*grid.parameters(mean, scale), support)
    model, parameters = distributions.pixel_model(gaussians, grey_levels)
    values = self.decode(len(gaussians.j), model, *parameters)
    return values.astype(np.uint8 if grey_levels <= 256 else np.uint16)

  def take_bits(self, logits):
    """Returns uint8 [n]."""
    logits = grid.parameter(logits, 'logits')
    index = self._side_information(grid.logit_index(logits), grid.logit_position(logits))
    probabilities = grid.PROBABILITIES[np.clip(index, 0, len(grid.LOGITS) - 1)]
    return self.decode(len(logits), Bernoulli(perfect=False), probabilities).astype(np.uint8)

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

  def _round(self, mean, scale, support):
    position = grid.scale_position(scale, support)
    j = self._side_information(grid.nearest(position), position)
    j = np.clip(j, support.finest, COARSEST)
    position = grid.mean_position(mean, j, support)
    i = self._side_information(grid.nearest(position), position)
    return grid.merge_certain(GridGaussians(j, i), support)

  def _side_information(self, index, position):
    """The encoder's index, from the decoder's and from its `position` before rounding, [n]."""
    count = self._numbers(1)[0] if len(index) else 0
    if not count:
      return index
    if count > len(index):
      raise Undecodable(f'side information on {count} of {len(index)} parameters')
    width = int(self._numbers(1)[0])
    if not 1 <= width <= MAX_WIDTH:
      raise Undecodable(f'side information of {width} bits')
    ambiguous = self.decode(len(index), Bernoulli(count / len(index), perfect=False)) == 1
    if np.sum(ambiguous) != count:
      raise Undecodable(f'side information on {np.sum(ambiguous)} parameters instead of {count}')
    low = self._raw(count, width)
    index = index.copy()
    index[ambiguous] = low + (np.rint((position[ambiguous] - low) / 2**width) * 2**width).astype(
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
  """The result of `call`; errors that constriction finds in its data are `Undecodable`."""
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

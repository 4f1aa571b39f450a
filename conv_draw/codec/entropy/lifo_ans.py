"""LIFO ANS for bits-back coding, in which decoding random bits samples.

`AnsStack` puts and takes pixels and bits as `range_coder.Writer` and `Reader` do, and integers
within bounds. Parameters are used as they are, without the grid: symbols come back under
bit-identical parameters alone, that is, on the machine that put them.
"""

import constriction
import numpy as np

from conv_draw.codec.entropy import parameter_grid as grid
from conv_draw.codec.entropy.distributions import Bernoulli, QuantizedGaussian
from conv_draw.codec.entropy.parameter_grid import Support
from conv_draw.codec.entropy.range_coder import TOLERANCE, Undecodable, guarded

AnsCoder = constriction.stream.stack.AnsCoder
LEAST = 2.0**-20  # probability of a bit


class AnsStack:
  """A stack of symbols: what was put last is taken first, and putting and taking are inverse."""

  def __init__(self, initial_words):
    """
    Args:
      initial_words: [>= 1] uint32, random or of other compressed data: what is taken before
        anything is put. `initial_words` gives them back after all else is taken.
    """
    words = np.asarray(initial_words)
    if words.ndim != 1 or not len(words) or words.dtype != np.uint32:
      raise ValueError('initial_words must be one or more uint32')
    self._coder = AnsCoder(np.ascontiguousarray(words), seal=True)

  @classmethod
  def from_bytes(cls, data):
    """The inverse of `to_bytes`. Raises UserError if that never returned such data."""
    data = bytes(data)
    words = np.frombuffer(data + bytes(-len(data) % 4), '<u4').astype(np.uint32)
    if len(words) < 2 or not data[-1]:
      raise Undecodable(f'{len(data)} bytes are not a stack')
    stack = cls.__new__(cls)
    stack._coder = AnsCoder(words)
    return stack

  def to_bytes(self):
    return self._coder.get_compressed().astype('<u4').tobytes().rstrip(b'\0')

  def initial_words(self):
    """What the stack was made of, uint32. Raises UserError unless that is all there is on it."""
    words = self._coder.get_compressed()
    if words[-1] != 1:
      raise Undecodable('the stack does not end where it began')
    return words[:-1]

  def bits(self):
    """The current size; `to_bytes` adds a bit that marks the end, and rounds up."""
    return self._coder.num_valid_bits()

  def put_integers(self, symbols, mean, scale, low, high):
    """Integers [n] of low..high under Gaussians in the same units; their order is kept."""
    self._put(symbols, mean, scale, _support(low, high))

  def take_integers(self, mean, scale, low, high):
    """Returns int64 [n]. Raises UserError if the stack has run out of bits."""
    return self._take(mean, scale, _support(low, high))

  def put_pixels(self, values, mean, scale, grey_levels=256, tolerance=TOLERANCE):
    """As of a `Writer`; parameters are coded under as they are, whatever the tolerance."""
    self._put(values, mean, scale, grid.pixel_support(grey_levels))

  def take_pixels(self, mean, scale, grey_levels=256):
    """As of a `Reader`: uint8 [n], or uint16 if grey_levels > 256."""
    return self._take(mean, scale, grid.pixel_support(grey_levels)).astype(
        np.uint8 if grey_levels <= 256 else np.uint16)

  def put_bits(self, values, logits, tolerance=TOLERANCE):
    """As of a `Writer`; likewise."""
    probabilities = _probabilities(logits)
    values = grid.integers(values, len(probabilities), 0, 1, 'bits')
    self._coder.encode_reverse(values.astype(np.int32), Bernoulli(perfect=False), probabilities)

  def take_bits(self, logits):
    """As of a `Reader`: uint8 [n]."""
    return self._taken(Bernoulli(perfect=False), _probabilities(logits)).astype(np.uint8)

  def _put(self, symbols, mean, scale, support):
    parameters = _within(mean, scale, support)
    symbols = grid.integers(symbols, len(parameters[0]), support.low, support.high)
    model = QuantizedGaussian(support.low, support.high)
    self._coder.encode_reverse(symbols.astype(np.int32), model, *parameters)

  def _take(self, mean, scale, support):
    model = QuantizedGaussian(support.low, support.high)
    return self._taken(model, *_within(mean, scale, support)).astype(np.int64)

  def _taken(self, model, *parameters):
    symbols = guarded(self._coder.decode, model, *parameters)
    # With the seal and one word beneath it gone, symbols are no longer random, nor restored.
    if self._coder.num_words() < 2:
      raise Undecodable('the stack ran out of bits, of which it may need more initial ones')
    return symbols


def _support(low, high):
  if not -(2**23) < low < high < 2**23 or high - low >= 2**20:
    raise ValueError(f'low..high must be two to 2^20 integers around 0, not {low}..{high}')
  return Support(int(low), int(high))


def _within(mean, scale, support):
  """Gaussians, within what the coder can tell apart."""
  mean, scale = grid.parameters(mean, scale)
  margin = support.high - support.low + 1
  scales = grid.SCALES[[support.finest - grid.FINEST, -1]]
  return np.clip(mean, support.low - margin, support.high + margin), np.clip(scale, *scales)


def _probabilities(logits):
  with np.errstate(over='ignore'):
    return np.clip(1 / (1 + np.exp(-grid.parameter(logits, 'logits'))), LEAST, 1 - LEAST)

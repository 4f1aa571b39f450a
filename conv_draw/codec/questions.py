"""Questions about pixels, each of which one call of an entropy coder answers.

A question names a place among the values [b, H, W, C] and the probabilities of what may be there.
Encoding puts the answer, which the values hold, to a sink (`stream.Writer` or `stack.Stack`);
decoding takes it from a source (`stream.Reader` or `stack.Stack`) and notes it in the values.
"""

from typing import NamedTuple

import numpy as np

from conv_draw.codec.entropy import distributions, snapping


class Gaussians(NamedTuple):
  """What are the n values there, under Gaussians in grey levels?"""

  place: tuple  # index of values
  mean: np.ndarray  # float64 [n]
  scale: np.ndarray
  grey_levels: int
  tolerance: snapping.Tolerance  # how far another machine's mean and scale may be off

  def put(self, sink, values):
    sink.put_pixels(
        values[self.place].ravel(), self.mean, self.scale, self.grey_levels, self.tolerance)

  def take(self, source, values):
    answers = source.take_pixels(self.mean, self.scale, self.grey_levels)
    values[self.place] = answers.reshape(values[self.place].shape)

  def code_length_bits(self, values):
    """What `put` to a stream promises to cost."""
    return distributions.pixel_code_length_bits(
        values[self.place].ravel(), self.mean, self.scale, self.grey_levels)


class Bits(NamedTuple):
  """Do the n values there hold a `unit`? Below it they are 0 until they are known."""

  place: tuple  # index of values
  unit: int  # what a bit of 1 adds to a value
  logits: np.ndarray  # float64 or float32 [n], of yes
  tolerance: snapping.Tolerance | None  # [n], of the logits elsewhere; None: of a decoder's

  def put(self, sink, values):
    sink.put_bits(self._answers(values), self.logits, self.tolerance)

  def take(self, source, values):
    answers = source.take_bits(self.logits).astype(np.int64)
    values[self.place] += self.unit * answers.reshape(values[self.place].shape)

  def code_length_bits(self, values):
    """What `put` to a stream promises to cost."""
    return distributions.bit_code_length_bits(self._answers(values), self.logits)

  def _answers(self, values):
    return (values[self.place] // self.unit & 1).ravel()

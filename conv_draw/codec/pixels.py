"""Pixels under the distribution that a canvas describes, to an entropy coder and back.

Each distribution is a generator of questions about the values [b, H, W, C], in the order in which
decoding answers them. Values that earlier questions were about may be read before the next one is
asked: an encoder has all of them from the start, a decoder has filled them in by then.
"""

import math

import numpy as np

from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.codec.entropy import snapping, stream
from conv_draw.codec.questions import Bits, Gaussians
from conv_draw.model.pixels import BernoulliPixels, GaussianPixels

# How far another machine's canvas may be off, times sqrt(T), as the canvas adds up what T
# iterations say: five times the root mean square of what was seen or more (FORMAT.md).
MEAN_ERROR = 1.2e-6  # of means in [0, 1]
LOG2_SCALE_ERROR = 6e-6
LOGIT_ERROR = 1e-5  # relative to 1 + |logit|

BLOCK = 2**14  # pixels of mixtures at a time: the masses of all their values are held in memory


def encode(sink, network, canvas, images, inside, measure=False):
  """Puts those pixels of images [b, H, W, C] that are `inside` [b, H, W].

  C may be less than the model has: only its first channels are coded then.

  Args:
    sink: `stream.Writer` or `stack.Stack`.
    canvas: [B, H, W, R], B >= b.
    measure: find out what that promises to cost a stream.
  Returns:
    -log2 P of them, summed, if `measure`; else NaN.
  """
  values, bits = images.astype(np.int64), []
  for question in sink.ordered(_questions(network, canvas, values, inside, sink.corrects)):
    question.put(sink, values)
    if measure:
      bits.append(question.code_length_bits(values))
  return sum(bits) if measure else math.nan


def decode(source, network, canvas, inside, channels):
  """Undoes `encode`: [b, H, W, C = channels] uint8, 0 where not `inside`.

  Args:
    source: `stream.Reader` or `stack.Stack`.
  Raises:
    UserError: what another model or machine wrote.
  """
  values = np.zeros((*inside.shape, channels), np.int64)
  for question in _questions(network, canvas, values, inside):
    question.take(source, values)
  return values.astype(np.uint8)


def _questions(network, canvas, values, inside, corrected=False):
  """All questions about the values inside, which are filled in meanwhile if they are not known.

  Args:
    corrected: whether to find out how far other machines' answers may be off.
  """
  distribution, at = network.model.pixels, np.nonzero(inside)
  if isinstance(distribution, GaussianPixels):
    return _about_gaussians(network, canvas, values, at)
  if isinstance(distribution, BernoulliPixels):
    return _about_bernoullis(network, canvas, values, at)
  if isinstance(distribution, LogisticMixturePixels):
    return _about_mixtures(network, canvas, values, at, corrected)
  raise TypeError(f'no way to code {distribution}')


def _about_gaussians(network, canvas, values, at):
  """One question, of all values."""
  mean, scale = (x[..., : values.shape[-1]].ravel() for x in network.pixel_gaussians(canvas[at]))
  grey_levels, growth = network.model.pixels.grey_levels, math.sqrt(network.model.iterations)
  yield Gaussians(at, mean, scale, grey_levels, snapping.Tolerance(
      growth * MEAN_ERROR * (grey_levels - 1), growth * LOG2_SCALE_ERROR))


def _about_bernoullis(network, canvas, values, at):
  """One question, of all values."""
  logits = canvas[at][:, : values.shape[-1]].ravel()
  error = math.sqrt(network.model.iterations) * LOGIT_ERROR
  yield Bits(at, network.model.pixels.grey_levels - 1, logits,
             snapping.Tolerance(error * (1 + abs(logits))))


def _about_mixtures(network, canvas, values, at, corrected):
  """A pixel's channels in turn, of each the bits of its value, most significant first."""
  grey_levels = network.model.pixels.grey_levels
  for start in range(0, len(at[0]), BLOCK):
    block = tuple(index[start : start + BLOCK] for index in at)
    for c in range(values.shape[-1]):
      tree, place = _tree(network, canvas[block], values[block], c), (*block, c)
      errors = _errors(network, canvas[block], values[block], c) if corrected else None
      for depth in range(_depth(tree)):
        below = _depth(tree) - depth  # bits, this one among them
        prefix = values[place] >> below
        tolerance = snapping.Tolerance(_logits(errors, depth, prefix)) if corrected else None
        yield Bits(place, 2 ** (below - 1), _logits(tree, depth, prefix), tolerance)
      highest = values[place].max()
      if highest >= grey_levels:
        raise stream.Undecodable(f'a pixel is {highest} of {grey_levels} levels')


def _tree(network, canvas, values, c):
  """[n, 2^k - 1] logits of all questions about channel c, given the channels before.

  Args:
    canvas, values: [n, R] and [n, C].
  """
  return network.pixel_decisions(*_grown(network, canvas, values[:, :c]))[: len(canvas)]


def _errors(network, canvas, values, c):
  """[n, 2^k - 1]: how far other machines' `_tree` may be off."""
  growth = math.sqrt(network.model.iterations)
  return network.pixel_decision_errors(
      *_grown(network, canvas, values[:, :c]), growth * MEAN_ERROR, growth * LOG2_SCALE_ERROR)[
          : len(canvas)]


def _grown(network, *arrays):
  """Of one shape whatever their length is, so that what reads them is compiled once."""
  size = min(BLOCK, network.batch * math.prod(network.image_size))
  return [np.pad(x, ((0, size - len(x)), (0, 0))) for x in arrays]


def _depth(tree):
  return (tree.shape[1] + 1).bit_length() - 1


def _logits(tree, depth, prefix):
  """[n] logits of the bit at `depth`, where the `depth` bits before it are the numbers `prefix`."""
  return np.take_along_axis(tree, (2**depth - 1 + prefix)[:, None], 1)[:, 0]

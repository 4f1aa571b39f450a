"""Pixels under the distribution that a canvas describes: into a stream, onto a stack, and back."""

import math

import numpy as np

from conv_draw.codec.entropy import snapping, stream
from conv_draw.errors import UserError
from conv_draw.model.pixels import BernoulliPixels, GaussianPixels

# How far another machine's canvas may be off: about the most that was seen (FORMAT.md).
CANVAS_ERROR = 3e-7  # of means in [0, 1]
LOG2_SCALE_ERROR = 5e-6

BLOCK = 2**14  # pixels of mixtures at a time: the masses of all their values are held in memory


def write(writer, network, canvas, images, inside, measure=False):
  """Writes those pixels of images [b, H, W, C] that are `inside` [b, H, W] to an `stream.Writer`.

  C may be less than the model has: only its first channels are coded then.

  Args:
    canvas: [B, H, W, R], B >= b.
    measure: find out what that promises to cost.
  Returns:
    -log2 P of them, summed, if `measure`; else NaN.
  """
  distribution, at = network.model.pixels, np.nonzero(inside)
  grey_levels = distribution.grey_levels
  values, bits = images[at].astype(np.int64), []
  if isinstance(distribution, GaussianPixels):
    parameters = _gaussians(network, canvas[at], values.shape[-1])
    writer.pixels(values.ravel(), *parameters, grey_levels, _tolerance(grey_levels))
    if measure:
      bits.append(stream.pixel_code_length_bits(values.ravel(), *parameters, grey_levels))
    return sum(bits) if measure else math.nan
  if isinstance(distribution, BernoulliPixels):
    logits = canvas[at][:, : values.shape[-1]].ravel()
    questions = [(values.ravel() // (grey_levels - 1), logits)]
  else:
    questions = _questions_about(network, canvas[at], values)
  for answers, logits in questions:
    writer.bits(answers, logits)
    if measure:
      bits.append(stream.bit_code_length_bits(answers, logits))
  return sum(bits) if measure else math.nan


def read(reader, network, canvas, inside, channels):
  """Undoes `write`: [b, H, W, C] uint8, 0 where not `inside`.

  Raises:
    UserError: what another model or machine wrote.
  """
  distribution, at = network.model.pixels, np.nonzero(inside)
  grey_levels = distribution.grey_levels
  images = np.zeros((*inside.shape, channels), np.uint8)
  if isinstance(distribution, GaussianPixels):
    images[at] = reader.pixels(
        *_gaussians(network, canvas[at], channels), grey_levels).reshape(images[at].shape)
  elif isinstance(distribution, BernoulliPixels):
    bits = reader.bits(canvas[at][:, :channels].ravel())
    images[at] = bits.reshape(images[at].shape) * (grey_levels - 1)
  else:
    images[at] = _answers(network, canvas[at], reader.bits, channels)
  return images


def push(stack, network, canvas, image):
  """Pushes the pixels of image [H, W, C] onto a `stack.Stack`."""
  distribution, grey_levels = network.model.pixels, network.model.pixels.grey_levels
  values = image.astype(np.int64)
  if isinstance(distribution, GaussianPixels):
    parameters = _gaussians(network, canvas[0], network.model.channels)
    stack.push_pixels(values.ravel(), *parameters, grey_levels)
  elif isinstance(distribution, BernoulliPixels):
    stack.push_bits(values.ravel() // (grey_levels - 1), canvas[0].ravel())
  else:
    flat = (-1, canvas.shape[-1]), (-1, values.shape[-1])
    questions = _questions_about(network, canvas[0].reshape(flat[0]), values.reshape(flat[1]))
    for answers, logits in reversed(list(questions)):
      stack.push_bits(answers, logits)


def pop(stack, network, canvas):
  """Undoes `push`: [H, W, C] uint8."""
  distribution, grey_levels = network.model.pixels, network.model.pixels.grey_levels
  if isinstance(distribution, GaussianPixels):
    values = stack.pop_pixels(*_gaussians(network, canvas[0], network.model.channels), grey_levels)
  elif isinstance(distribution, BernoulliPixels):
    values = stack.pop_bits(canvas[0].ravel()) * (grey_levels - 1)
  else:
    values = _answers(
        network, canvas[0].reshape(-1, canvas.shape[-1]), stack.pop_bits, network.model.channels)
  return values.astype(np.uint8).reshape(*network.image_size, network.model.channels)


def _gaussians(network, canvas, channels):
  return [x[..., :channels].ravel() for x in network.pixel_gaussians(canvas)]


def _tolerance(grey_levels):
  return snapping.Tolerance(CANVAS_ERROR * (grey_levels - 1), LOG2_SCALE_ERROR)


# Mixtures: a pixel's channels in turn, of each the bits of its value, most significant first ------


def _questions_about(network, canvas, values):
  """Yields (answers, logits) [n] of the bits of values [N, C], with canvas [N, R]."""
  for block in _blocks(len(values)):
    for c in range(values.shape[1]):
      tree = _tree(network, canvas[block], values[block], c)
      for depth in range(_depth(tree)):
        below = _depth(tree) - depth
        yield values[block, c] >> (below - 1) & 1, _at(tree, depth, values[block, c] >> below)


def _answers(network, canvas, ask, channels):
  """[N, channels] uint8 from what `ask` (logits [n] -> bits [n]) says to the same questions."""
  values = np.zeros((len(canvas), channels), np.int64)
  for block in _blocks(len(values)):
    for c in range(values.shape[1]):
      tree = _tree(network, canvas[block], values[block], c)
      value = np.zeros(len(tree), np.int64)
      for depth in range(_depth(tree)):
        value = 2 * value + ask(_at(tree, depth, value))
      if value.max(initial=0) >= network.model.pixels.grey_levels:
        raise UserError(stream.DAMAGED.format(
            f'a pixel is {value.max()} of {network.model.pixels.grey_levels} levels'))
      values[block, c] = value
  return values.astype(np.uint8)


def _blocks(n):
  return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def _tree(network, canvas, values, c):
  """[n, 2^k - 1] logits of all questions about channel c, given the channels before."""
  # Of one shape whatever n is, so that they are compiled once and the same everywhere.
  size = min(BLOCK, network.batch * math.prod(network.image_size))
  grow = lambda x: np.pad(x, ((0, size - len(x)), (0, 0)))
  return network.pixel_decisions(grow(canvas), grow(values[:, :c]))[: len(canvas)]


def _depth(tree):
  return (tree.shape[1] + 1).bit_length() - 1


def _at(tree, depth, prefix):
  """[n] logits of the bit at `depth`, where the `depth` bits before it are the numbers `prefix`."""
  return np.take_along_axis(tree, (2**depth - 1 + prefix)[:, None], 1)[:, 0]

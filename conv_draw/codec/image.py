"""One image to bytes and back, group by group of latents, losslessly or not (section 3).

Latents are coded in bins whose widths depend on the map and iteration alone. With posterior
'uniform' the bins of every latent begin at a pseudo-random place that encoder and decoder share
(dither), so that what is decoded is distributed as in training; with 'rounded' they do not.
"""

import numpy as np

from conv_draw.codec import container, entropy
from conv_draw.distributions import BernoulliPixels, GaussianPixels
from conv_draw.errors import UserError


def encode(network, image, seed=0, lossless=False, tolerance=entropy.TOLERANCE):
  """Codes all groups of latents, and behind them the pixels if `lossless`.

  Args:
    network: `network.Network` of a model with posterior 'uniform' or 'rounded'.
    image: [H, W, C] uint8 of 0..levels-1.
    seed: of the dither.
    tolerance: how far the decoder's floats may be off, see `entropy`.
  Returns:
    [`container.Segment`], and what coding promised to cost in bits: [groups + 1], pixels last.
  """
  state, seen = network.begin(), network.see(image)
  segments, bits = [], []
  for t in range(network.model.steps):
    posteriors, state = network.posteriors(t, seen, state)
    writer, zs, promised = entropy.Writer(), [None] * len(posteriors), 0.0
    for i in reversed(range(len(posteriors))):
      grid = _Grid(network, i, t, seed)
      mean, scale = grid.cells(*network.prior(i, t, state, zs))
      symbols = np.rint(posteriors[i][0] / grid.width - grid.offset).astype(np.int64)
      writer.integers(symbols, mean, scale, tolerance)
      promised += entropy.code_length_bits(symbols, mean, scale)
      zs[i] = grid.latents(symbols)
    state = network.advance(t, state, zs)
    segments.append(container.Segment(container.LATENTS, t + 1, writer.to_bytes()))
    bits.append(promised)
  if lossless:
    pixels, canvas = network.model.pixels, network.canvas(state)
    values, writer = image.ravel().astype(np.int64), entropy.Writer()
    if isinstance(pixels, GaussianPixels):
      parameters = network.pixel_gaussians(canvas)
      writer.pixels(values, *parameters, pixels.levels, tolerance)
      bits.append(entropy.pixel_code_length_bits(values, *parameters, pixels.levels))
    elif isinstance(pixels, BernoulliPixels):
      values, logits = values // (pixels.levels - 1), network.pixel_logits(canvas)
      writer.bits(values, logits, tolerance)
      bits.append(entropy.bit_code_length_bits(values, logits))
    else:
      raise UserError(
          f'{type(pixels).__name__} cannot be coded losslessly: use gaussian or bernoulli pixels')
    segments.append(
        container.Segment(container.PIXELS, container.PIXELS_INDEX, writer.to_bytes()))
  return segments, np.array(bits)


def decode(network, segments, seed=0, temperature=0.0):
  """[H, W, C] uint8: exact if the pixels are among the segments.

  Groups that are missing are generated from the prior, with its deviation times `temperature`.

  Raises:
    UserError: segments that another model, or another kind of machine, wrote.
  """
  stored = {s.index: s.payload for s in segments if s.kind == container.LATENTS}
  state = network.begin()
  for t in range(network.model.steps):
    reader = entropy.Reader(stored[t + 1]) if t + 1 in stored else None
    zs = [None] * len(network.shapes)
    for i in reversed(range(len(zs))):
      grid, prior = _Grid(network, i, t, seed), network.prior(i, t, state, zs)
      if reader:
        zs[i] = grid.latents(reader.integers(*grid.cells(*prior)))
      else:
        zs[i] = grid.generated(*prior, temperature)
    if reader:
      reader.finish()
    state = network.advance(t, state, zs)
  canvas, pixels = network.canvas(state), network.model.pixels
  last = [s.payload for s in segments if s.kind == container.PIXELS]
  if not last:
    return network.mean_image(canvas)
  reader = entropy.Reader(last[0])
  if isinstance(pixels, GaussianPixels):
    values = reader.pixels(*network.pixel_gaussians(canvas), pixels.levels)
  else:
    values = reader.bits(network.pixel_logits(canvas)) * (pixels.levels - 1)
  reader.finish()
  return values.astype(np.uint8).reshape(*network.image_size, network.model.channels)


class _Grid:
  """The bins of one layer's latents in one iteration; z is (symbol + offset) widths."""

  def __init__(self, network, i, t, seed):
    self.width = network.bin_widths(i, t)
    self._random = np.random.Generator(np.random.PCG64([seed, t, i]))
    self._dithered = network.model.posterior == 'uniform'
    self.offset = self._random.random(len(self.width)) - 0.5 if self._dithered else 0.0

  def cells(self, mean, sigma):
    """A prior in units of bins, of which symbol k is the one around k."""
    return mean / self.width - self.offset, sigma / self.width

  def latents(self, symbols):
    return ((symbols + self.offset) * self.width).astype(np.float32)

  def generated(self, mean, sigma, temperature):
    """What might have been stored: a sample of the prior, seen through the bins."""
    z = mean + temperature * sigma * self._random.standard_normal(len(mean))
    if self._dithered:
      z = z + temperature * self.width * (self._random.random(len(mean)) - 0.5)
    else:
      z = self.width * np.rint(z / self.width)
    return z.astype(np.float32)

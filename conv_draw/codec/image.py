"""One image to bytes and back, group by group of latents, losslessly or not (section 3).

Latents are coded in bins whose widths depend on the map and iteration alone. With posterior
'uniform' the bins of every latent begin at a pseudo-random place that encoder and decoder share
(dither), so that what is decoded is distributed as in training; with 'rounded' they do not.

Each segment of a file, of one group or a few, is one stream, in which the tiles of a large image
follow each other: so a file that ends behind any segment is a coarser image, and no more than a
few tiles are in memory at once.
"""

import functools

import jax
import numpy as np

from conv_draw.codec import pixels, refining
from conv_draw.codec.entropy import distributions, snapping, stream
from conv_draw.codec.format import container
from conv_draw.codec.network import as_everywhere, offsets
from conv_draw.model import latents
from conv_draw.progressive import rdoq

# How far another machine's priors may be off, relative to the scale and the mean, and log2 of the
# scale: some six times the root mean square of what was seen (FORMAT.md).
MEAN_ERROR, LOG2_SCALE_ERROR = 1e-5, 6e-6


def encode(network, tiling, image, ends, seed=0, lossless=False, measure=False, picture=None,
           contrast=0, progress=None, refinement=None):
  """Codes all groups of latents, and behind them the pixels if `lossless`.

  Args:
    network: `network.Network` of a model with posterior 'uniform' or 'rounded', for tiles.
    tiling: `tiles.Tiling` of the image.
    image: [H, W, C] uint8 of 0..grey_levels-1. A grey one (C = 1) is shown to a colour model as
      three equal channels, of which it stores the first.
    ends: the last group in each segment of latents, ascending; groups behind the last of them are
      not coded, nor computed, unless `lossless`, when it is T.
    seed: of the dither.
    measure: find out what coding promises to cost, which takes as long as coding does.
    picture: `picture.Picture` to fill in, if it is the canvas that comes behind the latents, in
      place of the pixels; with all groups.
    contrast: one of `network.offsets` to show the image in; the first segment says which.
    progress: called with how much of the work is done, and how much there is.
    refinement: `refining.Refinement` of the latents of a lossy file, if that is wanted.
  Returns:
    [`container.Segment`], and what coding promised to cost in bits: of each segment; NaN unless
    `measure`.
  """
  last, iterations = lossless or picture is not None, max(ends, default=0)
  writers = [stream.Writer() for _ in range(len(ends) + last)]
  bits = np.full(len(writers), 0.0 if measure else np.nan)
  choices = offsets(network.model)
  if ends and len(choices) > 1:
    writers[0].encode([choices.index(contrast)], distributions.Uniform(len(choices)))
  for chunk, numbers in enumerate(tiling.chunks()):
    tiles = tiling.cut(image, numbers)
    state, seen = network.start(), network.observe(_for_model(network, tiles), contrast)
    moves = None
    if refinement and iterations:
      moves = refining.moves(
          network, seen, contrast, iterations, refinement,
          functools.partial(_say_refined, progress, tiling, numbers))
    for t in range(iterations):
      segment = np.searchsorted(ends, t + 1)
      posteriors, state = network.posteriors(t, seen, state)
      if moves is not None:
        (mean, sigma), *above = posteriors
        posteriors = [(mean + moves[t], sigma), *above]
      zs = [None] * len(posteriors)
      for i in reversed(range(len(posteriors))):
        bins = _Bins(network, i, t, len(numbers), (seed, chunk))
        for coding_pass, at in enumerate(bins.passes):
          prior = network.prior(i, coding_pass, t, state, zs)
          cells = bins.cells(*prior, at)
          symbols = bins.symbols(posteriors[i][0], *cells, at)
          writers[segment].put_integers(symbols, *cells, bins.tolerance(*prior, at))
          if measure:
            bits[segment] += distributions.code_length_bits(symbols, *cells)
          zs[i] = bins.latents(symbols, at, zs[i])
      state = network.update(t, state, zs)
      if moves is None:
        _say(progress, tiling, numbers, t + 1, iterations)
    if picture is not None:
      picture.encode(writers[-1], network, network.canvas(state), numbers)
    elif lossless:
      inside = tiling.inside(numbers)
      bits[-1] += pixels.encode(
          writers[-1], network, network.canvas(state), tiles[: len(inside)], inside, measure)
  segments = [  # without the pixels' writer, if there is one
      container.Segment(container.LATENTS, end, writer.to_bytes())
      for end, writer in zip(ends, writers, strict=False)]
  if last:
    segments.append(container.Segment(
        container.PIXELS, container.PIXELS_INDEX, writers[-1].to_bytes()))
  return segments, bits


def _say(progress, tiling, numbers, done, iterations):
  """That so many of the iterations of some tiles are done."""
  if progress is not None and iterations:
    progress(numbers.start * iterations + len(numbers) * done, tiling.count * iterations)


def _say_refined(progress, tiling, numbers, done, total):
  """That so many of all steps of refining are done, which take nearly all of the time."""
  _say(progress, tiling, numbers, 100 * done // total, 100)


def decode(network, tiling, segments, ends, channels, seed=0, temperature=0.0, picture=None,
           progress=None):
  """[H, W, C = channels] uint8: exact if the pixels are among the segments.

  Groups that are missing are generated from the prior, with its deviation times `temperature`; of
  an embedded model they are left out if that is 0, for its canvas is good as it is. If
  `picture` is given, the last segment is the canvas's, which is filled in; the image is its too.
  `progress` is as of `encode`.

  Raises:
    UserError: segments that another model, or another kind of machine, wrote.
  """
  readers = _readers(segments)
  contrast = _contrast(network, readers, ends)
  last = readers.get((container.PIXELS, container.PIXELS_INDEX))
  image, iterations = np.zeros((*tiling.size, channels), np.uint8), network.model.iterations
  if network.model.embedded and not temperature:
    iterations = _stored(segments)
  for chunk, numbers in enumerate(tiling.chunks()):
    states = _states(network, readers, ends, iterations, len(numbers), (seed, chunk), temperature)
    for done, state in enumerate(states):  # noqa: B007
      _say(progress, tiling, numbers, done, iterations)
    canvas = network.canvas(state)
    if picture is not None:
      picture.decode(last, network, canvas, numbers)
      continue
    if last:
      tiles = pixels.decode(last, network, canvas, tiling.inside(numbers), channels)
    else:
      tiles = _shown(network, canvas, channels, contrast)
    tiling.paste(image, tiles, numbers)
  for reader in readers.values():
    reader.finish()
  return image


def decode_prefixes(network, tiling, segments, ends, channels, seed, counts):
  """Yields what a file decodes to if it is cut behind some groups, in the time of the last one.

  Args:
    network: of an embedded model.
    segments: of latents alone, each of one group.
    counts: of groups, which prefixes are wanted.
  Yields:
    (count, tiles [B, h, w, C] uint8, their numbers), a few tiles after the others.
  """
  readers = _readers(segments)
  contrast = _contrast(network, readers, ends)
  for chunk, numbers in enumerate(tiling.chunks()):
    states = _states(network, readers, ends, max(counts), len(numbers), (seed, chunk))
    for count, state in enumerate(states):
      if count in counts:
        yield count, _shown(network, network.canvas(state), channels, contrast), numbers


def _readers(segments):
  return {(s.kind, s.index): stream.Reader(s.payload) for s in segments}


def _stored(segments):
  """How many groups of latents are in some segments."""
  return max((s.index for s in segments if s.kind == container.LATENTS), default=0)


def _states(network, readers, ends, iterations, count, seed, temperature=0.0):
  """Yields the network's state before the first iteration, and after each."""
  state = network.start()
  yield state
  for t in range(iterations):
    reader = readers.get((container.LATENTS, ends[np.searchsorted(ends, t + 1)]))
    zs = [None] * len(network.shapes)
    for i in reversed(range(len(zs))):
      bins = _Bins(network, i, t, count, seed)
      for coding_pass, at in enumerate(bins.passes):
        prior = network.prior(i, coding_pass, t, state, zs)
        if reader:
          zs[i] = bins.latents(reader.take_integers(*bins.cells(*prior, at)), at, zs[i])
        else:
          zs[i] = bins.generated(*prior, temperature, at, zs[i])
    state = network.update(t, state, zs)
    yield state


def _contrast(network, readers, ends):
  """Which of `network.offsets` a file says first of all; without latents, 0."""
  reader = readers.get((container.LATENTS, ends[0])) if ends else None
  choices = offsets(network.model)
  if reader is None or len(choices) == 1:
    return 0
  return choices[int(reader.decode(1, distributions.Uniform(len(choices)))[0])]


def _shown(network, canvas, channels, contrast):
  """Tiles [B, h, w, C = channels] of a canvas: the mean of its pixels."""
  tiles = network.mean_images(canvas, contrast)
  if channels < network.model.channels:
    tiles = np.rint(tiles.mean(-1, keepdims=True)).astype(np.uint8)
  return tiles


def _for_model(network, images):
  return np.broadcast_to(images, (*images.shape[:-1], network.model.channels))


_best_bin = jax.jit(rdoq.best_bin)


class _Bins:
  """The bins of one layer's latents in one iteration; z is (symbol + offset) widths.

  Of a batch of tiles, `count` are coded, the others padding. `at` are the indices of the latents of
  a coding pass (`passes`); where z_t is returned, it is of all tiles, with the passes so far.
  """

  def __init__(self, network, i, t, count, seed):
    width = network.quantisation_steps(i, t)
    self._width = np.tile(width, count)
    self._all = network.batch * len(width)
    self.passes = [(np.arange(count)[:, None] * len(width) + of_pass).ravel()
                   for of_pass in network.coding_passes(i, t)]
    self._random = np.random.Generator(np.random.PCG64([*seed, t, i]))
    self._dithered = network.model.posterior == 'uniform'
    weights = network.distortion_weights(i, t)
    self._distortion_weights = None if weights is None else np.tile(weights, count)
    self._offset = (
        self._random.random(len(width) * count) - 0.5 if self._dithered
        else np.zeros(len(width) * count))

  def symbols(self, mean, expected, scale, at):
    """int64 [n]: the bins nearest to posterior means, or by RDOQ what costs less.

    Args:
      mean: of the posterior, all.
      expected, scale: of `cells`, of a coding pass.
    """
    position = mean[at] / self._width[at] - self._offset[at]
    nearest = np.rint(position)
    if self._distortion_weights is not None:
      prior = latents.DiagonalGaussian(expected, np.log(np.maximum(scale, 1e-6)))
      with as_everywhere():
        nearest = np.asarray(_best_bin(position, prior, self._distortion_weights[at]))
    return nearest.astype(np.int64)

  def cells(self, mean, sigma, at):
    """A prior in units of bins, of which symbol k is the one around k: (mean, scale), [n] each."""
    return mean[at] / self._width[at] - self._offset[at], sigma[at] / self._width[at]

  def tolerance(self, mean, sigma, at):
    """How far another machine's `cells` may be off: the widths and offsets are the same there."""
    return snapping.Tolerance(
        MEAN_ERROR * (sigma[at] + abs(mean[at])) / self._width[at], LOG2_SCALE_ERROR)

  def latents(self, symbols, at, before):
    """float32: z_t, with what was `before` of other passes, or None."""
    return self._with((symbols + self._offset[at]) * self._width[at], at, before)

  def generated(self, mean, sigma, temperature, at, before):
    """What might have been stored: a sample of the prior, seen through the bins; as `latents`."""
    width = self._width[at]
    z = mean[at] + temperature * sigma[at] * self._random.standard_normal(len(at))
    if self._dithered:
      z = z + temperature * width * (self._random.random(len(at)) - 0.5)
    else:
      z = width * np.rint(z / width)
    return self._with(z, at, before)

  def _with(self, z, at, before):
    result = np.zeros(self._all, np.float32) if before is None else before.copy()
    result[at] = z
    return result

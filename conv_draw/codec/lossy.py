"""An image to the latents of its file and back, and lossless pixels under their canvas (section 3).

Every segment of a file, of one group of latents or a few, is one stream, in which the tiles of a
large image follow each other. So a file that ends behind any segment is a coarser image, and no
more than a few tiles are in memory at once.
"""

import numpy as np

from conv_draw.codec import latent_optimisation, pixel_models
from conv_draw.codec.entropy import distributions, range_coder
from conv_draw.codec.format import container
from conv_draw.codec.network import offsets
from conv_draw.codec.quantiser import Quantiser


def encode(network, tiling, image, ends, seed=0, lossless=False, qp_offset=0, progress=None,
           optimisation=None, counts=(), decoded=None):
  """[`container.Segment`]: all groups of latents, and behind them the pixels if `lossless`.

  Args:
    network: `network.Network` of a model with posterior 'uniform' or 'rounded', for tiles.
    tiling: `tiling.Tiling` of the image.
    image: [H, W, C] uint8 of 0..grey_levels-1. For a colour model, a grey image (C = 1) has three
      equal channels, of which the first is stored.
    ends: the last group in each segment of latents, ascending; later groups are neither coded nor
      computed. If `lossless`, the last one is T.
    seed: of the dither.
    qp_offset: one of `network.offsets`, which the first segment stores.
    progress: called with how much of the work is done, and how much there is.
    optimisation: `latent_optimisation.Optimisation` of the latents of a lossy file, or None.
    counts, decoded: `decoded` is called with what `decode_truncated` would yield for `counts`: in
      an embedded model, the encoder has the decoder's states. If it returns True, of an image of
      one chunk, later groups are neither coded nor computed.
  """
  iterations = max(ends, default=0)
  writers = [range_coder.Writer() for _ in range(len(ends) + lossless)]
  choices = offsets(network.model)
  if ends and len(choices) > 1:
    writers[0].encode([choices.index(qp_offset)], distributions.Uniform(len(choices)))
  for chunk, numbers in enumerate(tiling.chunks()):
    tiles, report = tiling.cut(image, numbers), _progress_of(progress, tiling, numbers)
    shown = np.broadcast_to(tiles, (*tiles.shape[:-1], network.model.channels))
    state, observed = network.start(), network.observe(shown, qp_offset)
    shifts = None
    if optimisation and iterations:
      shifts = latent_optimisation.shifts(
          network, observed, qp_offset, iterations, optimisation, report)
    for t in range(iterations):
      writer = writers[np.searchsorted(ends, t + 1)]
      posteriors, state = network.posteriors(t, observed, state)
      zs = [None] * len(posteriors)
      for i in reversed(range(len(posteriors))):
        mean, _ = posteriors[i]
        if shifts is not None and i == 0:
          mean = mean + shifts[t]
        quantiser = Quantiser(network, i, t, len(numbers), (seed, chunk))
        for coding_pass, at in enumerate(quantiser.passes):
          prior = network.prior(i, coding_pass, t, state, zs)
          in_bins = quantiser.prior_in_bins(*prior, at)
          symbols = quantiser.symbols(mean, *in_bins, at)
          writer.put_integers(symbols, *in_bins, quantiser.tolerance(*prior, at))
          zs[i] = quantiser.latents(symbols, at, zs[i])
      state = network.update(t, state, zs)
      if shifts is None:
        report(t + 1, iterations)
      if t + 1 in counts:
        picture = _mean_tiles(network, network.canvas(state), image.shape[2], qp_offset)
        if decoded(t + 1, picture, numbers) and len(numbers) == tiling.count:
          ends = [end for end in ends if end <= t + 1]
          del writers[len(ends) :]
          break
    if lossless:
      valid = tiling.valid(numbers)
      pixel_models.encode(writers[-1], network, network.canvas(state), tiles[: len(valid)], valid)
  kinds = [(container.LATENTS, end) for end in ends]
  kinds += [(container.PIXELS, container.PIXELS_INDEX)] * lossless
  return [container.Segment(*kind, writer.to_bytes())
          for kind, writer in zip(kinds, writers, strict=True)]


def decode(network, tiling, segments, ends, channels, seed=0, temperature=0.0, progress=None):
  """[H, W, C = channels] uint8: exact if the pixels are among the segments.

  Missing groups are generated from the prior, with its deviation times `temperature`; in an
  embedded model they are left out if that is 0, because the canvas after any group is a picture.

  Raises:
    UserError: segments of another model, or of another kind of machine.
  """
  readers = _readers(segments)
  qp_offset = _qp_offset(network, readers, ends)
  pixels = readers.get((container.PIXELS, container.PIXELS_INDEX))
  image, iterations = np.zeros((*tiling.size, channels), np.uint8), network.model.iterations
  if network.model.embedded and not temperature:
    iterations = max((s.index for s in segments if s.kind == container.LATENTS), default=0)
  for chunk, numbers in enumerate(tiling.chunks()):
    report = _progress_of(progress, tiling, numbers)
    states = _states(network, readers, ends, iterations, len(numbers), (seed, chunk), temperature)
    for done, state in enumerate(states):  # noqa: B007
      report(done, iterations)
    canvas = network.canvas(state)
    if pixels:
      tiles = pixel_models.decode(pixels, network, canvas, tiling.valid(numbers), channels)
    else:
      tiles = _mean_tiles(network, canvas, channels, qp_offset)
    tiling.paste(image, tiles, numbers)
  for reader in readers.values():
    reader.finish()
  return image


def decode_truncated(network, tiling, segments, ends, channels, seed, counts):
  """Yields the images at several truncation points, in the time of the last one.

  Args:
    network: of an embedded model.
    segments: of latents alone, each of one group.
    counts: numbers of groups, one for each truncation point.
  Yields:
    (count, tiles [B, h, w, C] uint8, their numbers), a few tiles after the others.
  """
  readers = _readers(segments)
  qp_offset = _qp_offset(network, readers, ends)
  for chunk, numbers in enumerate(tiling.chunks()):
    states = _states(network, readers, ends, max(counts), len(numbers), (seed, chunk))
    for count, state in enumerate(states):
      if count in counts:
        yield count, _mean_tiles(network, network.canvas(state), channels, qp_offset), numbers


def _readers(segments):
  return {(s.kind, s.index): range_coder.Reader(s.payload) for s in segments}


def _states(network, readers, ends, iterations, count, seed, temperature=0.0):
  """Yields the network's state before the first iteration, and after each."""
  state = network.start()
  yield state
  for t in range(iterations):
    reader = readers.get((container.LATENTS, ends[np.searchsorted(ends, t + 1)]))
    zs = [None] * len(network.shapes)
    for i in reversed(range(len(zs))):
      quantiser = Quantiser(network, i, t, count, seed)
      for coding_pass, at in enumerate(quantiser.passes):
        prior = network.prior(i, coding_pass, t, state, zs)
        if reader:
          symbols = reader.take_integers(*quantiser.prior_in_bins(*prior, at))
          zs[i] = quantiser.latents(symbols, at, zs[i])
        else:
          zs[i] = quantiser.generated(*prior, temperature, at, zs[i])
    state = network.update(t, state, zs)
    yield state


def _qp_offset(network, readers, ends):
  """The offset that the first segment of latents stores; 0 without latents."""
  reader = readers.get((container.LATENTS, ends[0])) if ends else None
  choices = offsets(network.model)
  if reader is None or len(choices) == 1:
    return 0
  return choices[int(reader.decode(1, distributions.Uniform(len(choices)))[0])]


def _mean_tiles(network, canvas, channels, qp_offset):
  """Tiles [B, h, w, C = channels] uint8: the mean of a canvas's pixels."""
  tiles = network.mean_images(canvas, qp_offset)
  if channels < network.model.channels:
    tiles = np.rint(tiles.mean(-1, keepdims=True)).astype(np.uint8)
  return tiles


def _progress_of(progress, tiling, numbers):
  """A function (done, total) that reports the work on some tiles as a part of that on all."""
  if progress is None:
    return lambda done, total: None
  return lambda done, total: total and progress(
      numbers.start * total + len(numbers) * done, tiling.count * total)

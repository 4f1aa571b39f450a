"""The codec as a library: images to bytes and back with the model of a trained run."""

import functools
import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.codec import bits_back, rates, refining, refusals
from conv_draw.codec import fingerprint as fingerprint_lib
from conv_draw.codec import image as image_lib
from conv_draw.codec import network as network_lib
from conv_draw.codec import segments as segments_lib
from conv_draw.codec import tiles as tiles_lib
from conv_draw.codec.entropy import stream
from conv_draw.codec.format import archive_file, container, limits
from conv_draw.codec.whole_pixels import WholePixels
from conv_draw.errors import UserError
from conv_draw.model import arguments
from conv_draw.progressive.pixels import SquaredErrorPixels
from conv_draw.report import pictures
from conv_draw.training import trained
from conv_draw.workdir import config as config_lib

SEED = 0  # of the dither and of the initial bits
BINS = ('uniform', 'rounded')  # posteriors that code single images
CUTTABLE = 2**14  # pixels from which a lossless file can be cut: each segment costs 7 bytes or so
GAUSSIAN = ('gaussian', 'constant')  # and those for bits-back coding
Buffer = Any  # what holds bytes: `arguments.file_bytes`
Progress = Callable[[int, int], None]  # how much is done, of how much


class Encoded(NamedTuple):
  """One image's file."""

  data: bytes
  header: container.Header
  segments: list  # of `container.Segment`, those that are in it
  decoded: np.ndarray  # [H, W, C] uint8: what it decodes to
  promised_bits: np.ndarray  # [segments] of `image.encode`


class Coder:
  """Codes with one model.

  Attributes:
    model, params: `ConvDraw` and its parameters; or `LocalDraw` of `IntegerPixels` alone.
    head: `IntegerPixels` for the pixels of lossless files; None: the canvas's own distribution.
    fingerprint: 8 bytes that files of this model carry.
    name: for messages.
    fixed_size: (H, W), the only one that it takes if it has fully connected layers.
    clock: the time that its networks have taken.
  """

  def __init__(self, model: Any, params: Any, name: str = '',
               image_size: tuple[int, int] | None = None):
    """
    Args:
      model, params, name: see above; or `LocalDraw` of a `ConvDraw` and `IntegerPixels`, of which
        the first becomes `model`.
      image_size: (H, W) of the images it was trained on, needed with fully connected layers.
    """
    refusals.model(model)
    arguments.params(params)
    self.fingerprint = fingerprint_lib.fingerprint(model, params)
    self.head = None
    if isinstance(model, LocalDraw):
      self.head, head_params = model.head, {'params': params['params']['head']}
      if model.draw:
        model, params = model.draw, {'params': params['params']['draw']}
    self.model, self.params, self.name = model, params, name
    self.clock = network_lib.Clock()
    self.fixed_size = image_size or getattr(model, 'image_size', None)
    self._network = functools.lru_cache(maxsize=4)(
        lambda size, batch: network_lib.Network(model, params, size, batch, self.clock))
    self._whole_pixels = functools.lru_cache(maxsize=4)(
        lambda size, batch, channels: WholePixels(
            self.head, head_params, size, batch, channels))

  @property
  def _at_once(self):
    """Pixels that its network sees at once."""
    return tiles_lib.at_once(0 if self.lossless_only else self.model.stride)

  @property
  def lossless_only(self) -> bool:
    """Whether the model has no latents: its files hold pixels alone."""
    return not self.model.iterations

  @property
  def lossy_only(self) -> bool:
    """Whether the model says how far pixels may be off, but nothing by which to code them."""
    return isinstance(self.model.pixels, SquaredErrorPixels) and self.head is None

  @classmethod
  def load(cls, workdir: str) -> Self:
    """Of a run; of one with local pixels and latents, the canvas and its latents.

    Raises:
      UserError: no run there, or of a model that codes nothing.
    """
    workdir = arguments.path(workdir, 'workdir')
    config = config_lib.load(workdir)
    if config.model.kind == 'vae':
      raise UserError(
          f'{workdir} has model.kind={config.model.kind}: coding needs iterations, as draw has')
    integer = config.model.kind == 'local' and config.local.numbers == 'whole'
    if not config.model.steps and not integer:
      raise UserError(
          f'{workdir} has model.steps=0 and local.numbers={config.local.numbers}: '
          'without latents, the codec needs whole numbers')
    run = trained.load(config, workdir)
    model, params = run.model, run.params
    if isinstance(model, LocalDraw) and not integer:
      # What its canvas says of pixels is a model of its own.
      model, params = model.draw, {'params': params['params']['draw']}
    name = os.path.basename(os.path.abspath(workdir))
    return cls(model, params, name, run.images.shape[:2])

  def encode(self, image: arguments.Array, lossless: bool = False, groups: int | None = None,
             bits_per_dim: float | None = None, psnr: float | None = None,
             tile_side: int | None = None, measure: bool = False, verify: bool = True,
             effort: int = 0, progress: Progress | None = None, source: str = 'the image',
             contrast: int | None = None) -> Encoded:
    """One image to the bytes of a file, which have been decoded again before they are returned.

    Args:
      image: [H, W, C] uint8 of 0..grey_levels-1, of NumPy or JAX.
      lossless: store the pixels behind the latents.
      groups: how many groups of latents to store, 0..T; None: all.
      bits_per_dim: store as many groups as fit into this rate, the file's overhead included, and
        at least one.
      psnr: store as few groups as have this quality in dB, or all.
      tile_side: at most, in pixels; 0: code the image whole; None: whole if it is small.
      measure: fill in `promised_bits`.
      verify: decode a lossless file before it is returned, to be sure; lossy ones always are, to
        say what they decode to.
      effort: 1 or 2, for smaller or better files: of lossless ones, whole-number pixels are fitted
        to the image; of lossy ones, of a progressive model, its latents are optimised.
      progress: called with how much of the work is done, and how much there is at most.
      source: what messages call the image.
      contrast: of a progressive model, one of `network.OFFSETS`, in which the image is coded: the
        higher, the smaller is the file. None: the one that serves `bits_per_dim` or `psnr` best; if
        neither is given, 0.
    Returns:
      `Encoded`.
    Raises:
      UserError: an image that the model cannot code, or another argument that it cannot follow.
    """
    refusals.request(
        self, source, lossless, groups, bits_per_dim, psnr, tile_side, effort, contrast)
    self.check_posterior(BINS)
    image = np.asarray(arguments.images(image, 'HWC', self.model.pixels.grey_levels, source))
    refusals.image(self, source, image.shape)
    if lossless:
      refusals.values(self, source, image)
    height, width, channels = image.shape
    if tile_side is None:
      tile_side = tiles_lib.default_tile_side((height, width), self._at_once)
    tiling = self._tiling((height, width), tile_side, source)
    header = container.Header(
        container.LOSSLESS if lossless else container.LOSSY, width, height, channels,
        self.model.pixels.grey_levels, self.model.iterations, tile_side,
        container.EACH if self.lossless_only else _grouping(image, lossless), SEED,
        self.fingerprint, self.name, refusals.jax_version())
    ends = container.ends(header)
    limits.check_image(header, source)
    whole = lossless and self.head is not None
    asked = psnr is not None or bits_per_dim is not None
    searched = (
        asked and contrast is None and groups != 0 and len(network_lib.offsets(self.model)) > 1)
    passes = 1 + (verify or not lossless)
    passes += searched * (len(rates.CONTRASTS) - 1 + rates.HALVINGS)
    refined = effort > 0 and not lossless and groups != 0
    passes += refined * 2 * len(refining.FOR_QUALITY)
    parts = (_part_of(progress, number, passes) for number in itertools.count())

    def encode(ends, **how):
      return segments_lib.encode(
          self._network_of(tiling), self._pixels_of(tiling, channels) if whole else None, tiling,
          image, ends, SEED, lossless, measure, effort, self.clock, next(parts), **how)

    stored = ends if lossless else ends[:groups]
    size_of = lambda segments: len(container.write(header, segments))
    limit = math.inf if bits_per_dim is None else bits_per_dim * image.size / 8
    psnrs = functools.partial(self._psnrs, image, header, tiling)
    if searched:
      contrast, (segments, bits) = rates.search(
          lambda count, contrast: encode(stored[:count], contrast=contrast), psnrs, size_of,
          len(stored), limit, psnr)
    else:
      segments, bits = encode(stored, contrast=contrast or 0)
      if psnr is not None:
        segments = segments[: rates.enough(psnr, psnrs(segments, range(1, len(segments) + 1)))]
      if limit < math.inf:
        segments = segments[: rates.fitting(limit, size_of, segments)]
    if refined and size_of(segments) <= limit:
      segments, bits = refining.search(
          lambda count, contrast, how: encode(stored[:count], contrast=contrast, refinement=how),
          lambda segments: psnrs(segments, [len(segments)])[0], size_of, (segments, bits),
          contrast or 0, effort, searched, limit, psnr)
    if size_of(segments) > limit:
      least = np.ceil(8 * size_of(segments) / image.size * 1e4) / 1e4  # that much is enough
      what = 'its first group of latents' if segments else 'nothing but a header'
      raise UserError(
          f'{source} takes {least:.4f} bits/dim with {what}, more than {bits_per_dim:g}: ask for '
          'that much, or for --groups=0 alone')
    data = container.write(header, segments)
    refusals.nothing(self, source, segments, tiling)
    decoded = image
    if verify or not lossless:
      decoded = self._decode(
          header, tiling, segments, progress=_part_of(progress, passes - 1, passes))
    if lossless and not np.array_equal(decoded, image):
      raise UserError(f'{source} was not coded: what was written would not decode to it')
    return Encoded(data, header, segments, decoded, bits[: len(segments)])

  def decode(
      self, data: Buffer, partial: bool = False, temperature: float = 0.0,
      progress: Progress | None = None, source: str = 'the file',
  ) -> tuple[np.ndarray, container.Header, list[container.Segment]]:
    """The bytes of a file to an image.

    Args:
      data: bytes, or what holds some: bytearray, memoryview, uint8 of NumPy or JAX.
      partial: accept a file cut anywhere, and leave out the last segments of one that another
        machine wrote until the rest decodes here.
      temperature: of the prior that generates the groups that are missing, 0..10.
      progress: called with how much of the work is done, and how much there is.
      source: what messages call the file.
    Returns:
      ([H, W, C] uint8, `container.Header`, [`container.Segment`]).
    Raises:
      UserError: damaged data, of another model, or of a machine whose floats differ too much.
    """
    data = arguments.file_bytes(data, source)
    arguments.number(temperature, 'temperature', 0, 10)
    self.check_posterior(BINS)
    header, segments = container.read(data, partial, source=source)
    refusals.header(self, source, header)
    if header.groups != self.model.iterations:
      raise UserError(f'{source} has {header.groups} groups, its model {self.model.iterations}')
    tiling = self._tiling((header.height, header.width), header.tile_side, source)
    refusals.nothing(self, source, segments, tiling)
    while True:
      try:
        image = self._decode(header, tiling, segments, temperature, progress)
        return image, header, segments
      except stream.Undecodable as e:
        if len(segments) < 2 or not partial:
          raise refusals.elsewhere(
              source, header, '' if partial else '; --partial gives a coarser image') from e
        segments = segments[:-1]

  def decode_prefixes(
      self, header: container.Header, segments: list[container.Segment]) -> list[np.ndarray]:
    """What a file decodes to if it is cut behind 0, 1, ... segments: [H, W, C] uint8 each.

    Of lossy files and models trained for that, in the time that it takes to decode the last one.
    Without latents there is nothing of a file but all, in a list of one.

    Args:
      header, segments: as of `Encoded`.
    """
    tiling = self._tiling((header.height, header.width), header.tile_side)
    counts = range(len(segments) + 1)
    if self.lossless_only:
      return [self._decode(header, tiling, segments)]
    if header.mode == container.LOSSLESS or not self.model.embedded:
      return [self._decode(header, tiling, segments[:count]) for count in counts]
    size = header.height, header.width, header.channels
    images = [np.zeros(size, np.uint8) for _ in counts]
    for count, tiles, numbers in self._prefixes(header, tiling, segments, counts):
      tiling.paste(images[count], tiles, numbers)
    return images

  def _prefixes(self, header, tiling, segments, counts):
    return image_lib.decode_prefixes(
        self._network_of(tiling), tiling, segments, container.ends(header), header.channels,
        header.seed, counts)

  def _psnrs(self, image, header, tiling, segments, counts):
    """[PSNR in dB] of the prefixes of so many segments each, in constant memory."""
    peak = header.grey_levels - 1
    if not self.model.embedded:
      return [pictures.psnr_db(image, self._decode(header, tiling, segments[:count]), peak)
              for count in counts]
    errors = dict.fromkeys(counts, 0.0)
    for count, tiles, numbers in self._prefixes(header, tiling, segments, counts):
      errors[count] += tiling.squared_error(image, tiles, numbers)
    return [pictures.psnr_of(errors[count] / image.size, peak) for count in counts]

  def _decode(self, header, tiling, segments, temperature=0.0, progress=None):
    whole = self.head is not None and segments and segments[-1].kind == container.PIXELS
    return segments_lib.decode(
        self._network_of(tiling), self._pixels_of(tiling, header.channels) if whole else None,
        tiling, segments, container.ends(header), header.channels, header.seed, temperature,
        self.clock, progress)

  def archive(
      self, images: arguments.Array, names: Sequence[str], source: str = 'the archive',
  ) -> tuple[bytes, int, bits_back.Rates]:
    """Many images to the bytes of an archive, which have been decoded again before.

    Args:
      images: [N, H, W, C] uint8 of 0..grey_levels-1, of NumPy or JAX, N > 0; at most
        `tiles.at_once` pixels each.
      names: N, of their files.
      source: what messages call the images.
    Returns:
      (bytes, number of initial bits, `bits_back.Rates`).
    Raises:
      UserError: images or names that cannot be archived.
    """
    self.check_posterior(GAUSSIAN)
    images = np.asarray(arguments.images(images, 'NHWC', self.model.pixels.grey_levels, source))
    names = arguments.strings(names, 'names')
    if len(names) != len(images):
      raise UserError(f'{source}: {len(images)} images and {len(names)} names: give each one')
    refusals.image(self, source, images.shape[1:])
    refusals.values(self, source, images)
    if images.shape[3] < self.model.channels:
      raise UserError(
          f'{source} holds grey images, the model {self.name} takes colour: convert them '
          'to RGB')
    network = self._network_of(self._tiling(images.shape[1:3], 0, source))
    payload, initial_bits, rates = bits_back.encode(network, images, SEED)
    if not np.array_equal(bits_back.decode(network, payload, len(images), SEED), images):
      raise UserError(f'{source} was not archived: it would not decode to what went in')
    count, height, width, channels = images.shape
    header = archive_file.Header(
        count, width, height, channels, self.model.pixels.grey_levels, initial_bits, SEED,
        self.fingerprint, self.name, refusals.jax_version())
    return archive_file.write(header, names, payload), initial_bits, rates

  def extract(
      self, data: Buffer, source: str = 'the archive') -> tuple[np.ndarray, Sequence[str]]:
    """The bytes of an archive, as `decode` takes them, to ([N, H, W, C] uint8, names).

    Raises:
      UserError: damaged data, or of another model.
    """
    data = arguments.file_bytes(data, source)
    self.check_posterior(GAUSSIAN)
    header, names, payload = archive_file.read(data, source=source)
    refusals.header(self, source, header)
    network = self._network_of(self._tiling((header.height, header.width), 0, source))
    try:
      return bits_back.decode(network, payload, header.count, header.seed), names
    except stream.Undecodable as e:
      raise refusals.elsewhere(source, header, '') from e

  def _tiling(self, size, tile_side, source='the image'):
    """`Tiling` of images of (H, W)."""
    tiling = tiles_lib.tiling(size, tile_side, self._at_once)
    refusals.tile(self, source, tiling.tile_size, self._at_once)
    return tiling

  def _network_of(self, tiling):
    """`Network` for its tiles; None without latents."""
    return None if self.lossless_only else self._network(tiling.tile_size, tiling.batch)

  def _pixels_of(self, tiling, channels):
    """`WholePixels` for its tiles."""
    return self._whole_pixels(tiling.tile_size, tiling.batch, channels)

  def check_posterior(self, wanted: Sequence[str]) -> None:
    """Raises `UserError` unless the model's posterior is one of those `wanted`: BINS, GAUSSIAN."""
    if self.lossless_only:
      if wanted != BINS:
        raise UserError(
            f'the model {self.name} has no latents: code images one by one, with --lossless')
    elif self.model.posterior not in wanted:
      raise UserError(
          f'the model {self.name} has model.posterior={self.model.posterior}; this needs '
          f'{" or ".join(wanted)} (single images: uniform or rounded; archives: gaussian or '
          'constant)')

  def fits(self, size: tuple[int, int]) -> bool:
    """Whether the model takes images of (H, W): with fully connected layers, of one size."""
    return self.lossless_only or size == self.fixed_size or all(
        layer.stride for layer in self.model.all_layers)


def _part_of(progress, number, count):
  """`progress` of one of `count` passes over an image; None of None."""
  return progress and (lambda done, total: progress(number * total + done, count * total))


def _grouping(image, lossless):
  """A lossy file can be cut behind every group; a lossless one less finely, and if small not."""
  if not lossless:
    return container.EACH
  return container.ALL if image.shape[0] * image.shape[1] < CUTTABLE else container.DOUBLING

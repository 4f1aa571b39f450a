"""The codec as a library: images to bytes and back with the model of a trained run."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from conv_draw import quality
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.codec import bits_back, lossless, lossy, network, rate_control, validation
from conv_draw.codec import fingerprint as fingerprint_lib
from conv_draw.codec import tiling as tiling_lib
from conv_draw.codec.entropy import range_coder
from conv_draw.codec.format import archive as archive_lib
from conv_draw.codec.format import container, limits
from conv_draw.errors import UserError
from conv_draw.model import arguments
from conv_draw.progressive.pixels import SquaredErrorPixels
from conv_draw.training import trained
from conv_draw.workdir import config as config_lib

SEED = 0  # of the dither and of the initial bits
QUANTISED = ('uniform', 'rounded')  # posteriors that code single images
GAUSSIAN = ('gaussian', 'constant')  # posteriors for bits-back coding
# Pixels of a lossless file that can be cut into segments, which cost some 7 bytes each.
MIN_PIXELS_TO_CUT = 2**14
Buffer = Any  # bytes-like: `arguments.file_bytes`
Progress = Callable[[int, int], None]  # (work done, all work)


class Encoded(NamedTuple):
  """One image's file."""

  data: bytes
  header: container.Header
  segments: list  # of `container.Segment`
  decoded: np.ndarray  # [H, W, C] uint8, the decoded image


class Coder:
  """A model and its parameters that code images.

  Attributes:
    model, params: `ConvDraw`, `Progressive`, or `LocalDraw` of `IntegerPixels`; its parameters.
    head: `IntegerPixels` of a model without latents; None: pixels have the canvas's distribution.
    fingerprint: the 8 bytes that files of this model carry.
    name: for messages.
    fixed_size: (H, W), the only size of images if the model has fully connected layers.
  """

  def __init__(self, model: Any, params: Any, name: str = '',
               image_size: tuple[int, int] | None = None):
    """
    Args:
      model, params, name: see above.
      image_size: (H, W) of the training images, needed with fully connected layers.
    Raises:
      UserError: a model that codes nothing.
    """
    validation.check_model(model)
    arguments.params(params)
    self.model, self.params, self.name = model, params, name
    self.fingerprint = fingerprint_lib.fingerprint(model, params)
    self.head = model.head if isinstance(model, LocalDraw) else None
    self.fixed_size = image_size or getattr(model, 'image_size', None)
    self._network = functools.lru_cache(maxsize=4)(
        lambda size, batch: network.Network(model, params, size, batch))
    self._tile_codec = functools.lru_cache(maxsize=4)(
        lambda size, batch, channels: lossless.TileCodec(
            self.head, {'params': params['params']['head']}, size, batch, channels))

  @classmethod
  def load(cls, workdir: str) -> Self:
    """The coder of a run; with local autoregressive pixels above a canvas, of the canvas alone.

    Raises:
      UserError: no run there, or a model that codes nothing.
    """
    workdir = arguments.path(workdir, 'workdir')
    config = config_lib.load(workdir)
    if config.model.kind == 'vae':
      raise UserError(
          f'{workdir} has model.kind={config.model.kind}: coding needs iterations, as draw has')
    if not config.model.steps and config.local.numbers != 'whole':
      raise UserError(
          f'{workdir} has model.steps=0 and local.numbers={config.local.numbers}: '
          'without latents, the codec needs local.numbers=whole')
    run = trained.load(config, workdir)
    model, params = run.model, run.params
    if isinstance(model, LocalDraw) and model.draw:
      model, params = model.draw, {'params': params['params']['draw']}
    name = os.path.basename(os.path.abspath(workdir))
    return cls(model, params, name, run.images.shape[:2])

  @property
  def lossless_only(self) -> bool:
    """Whether the model has no latents: its files hold pixels alone."""
    return self.head is not None

  @property
  def lossy_only(self) -> bool:
    """Whether the model's likelihood is a distortion, under which no pixels can be coded."""
    return isinstance(self.model.pixels, SquaredErrorPixels)

  def fits(self, size: tuple[int, int]) -> bool:
    """Whether the model takes images of (H, W): with fully connected layers, of one size."""
    return self.lossless_only or size == self.fixed_size or all(
        layer.stride for layer in self.model.all_layers)

  def check_posterior(self, wanted: Sequence[str]) -> None:
    """Raises `UserError` unless the model's posterior is in `wanted`: `QUANTISED`, `GAUSSIAN`."""
    validation.check_posterior(self, wanted, QUANTISED)

  def encode(self, image: arguments.Array, lossless: bool = False, groups: int | None = None,
             bits_per_dim: float | None = None, psnr: float | None = None,
             tile_side: int | None = None, verify: bool = True, effort: int = 0,
             progress: Progress | None = None, source: str = 'the image',
             qp_offset: int | None = None) -> Encoded:
    """One image to the bytes of a file.

    Args:
      image: [H, W, C] uint8 of 0..grey_levels-1, of NumPy or JAX.
      lossless: store the pixels exactly, behind the latents if the model has any.
      groups: how many groups of latents to store, 0..T; None: all.
      bits_per_dim: the best picture of at most this rate, the file's overhead included; at least
        one group.
      psnr: the smallest file of this quality in dB; all groups if it is not reached.
      tile_side: at most, in pixels; 0: code the image whole; None: whole if it is small.
      verify: decode a lossless file and compare it with the image; lossy files are always decoded.
      effort: 1 or 2, for smaller or better files: lossless, by `parameter_tuning` of an integer
        network; lossy, by `latent_optimisation` of a progressive model.
      progress: called with how much of the work is done, and how much there is at most.
      source: the image's name in messages.
      qp_offset: of a progressive model, one of `network.OFFSETS` of the quantisation steps: the
        higher, the smaller the file. None: the one that serves `bits_per_dim` or `psnr` best, else
        0.
    Raises:
      UserError: an image that the model cannot code, or arguments that contradict each other.
    """
    validation.check_request(
        self, source, lossless, groups, bits_per_dim, psnr, tile_side, effort, qp_offset)
    self.check_posterior(QUANTISED)
    image = validation.image(self, source, image, lossless)
    header = self._header(image, lossless, tile_side)
    limits.check_image(header, source)
    tiling = self._tiling(header, source)
    limit = math.inf if bits_per_dim is None else bits_per_dim * image.size / 8
    target = rate_control.Target(
        self.model.iterations if groups is None else groups, limit, psnr, qp_offset,
        0 if lossless or groups == 0 else effort,
        1 if self.lossless_only else len(network.offsets(self.model)))
    passes = target.max_encodings + (verify or not lossless)
    parts = (tiling_lib.part_of(progress, number, passes) for number in range(passes))
    if lossless:
      segments = self._encode_lossless(header, tiling, image, effort, next(parts))
    else:
      segments = rate_control.best_file(target, self._trials(header, tiling, image, parts))
    validation.check_size(
        source, image, segments, len(container.write(header, segments)), limit)
    validation.check_something_stored(self, source, segments, tiling)
    decoded = image
    if verify or not lossless:
      decoded = self._decode(
          header, tiling, segments, progress=tiling_lib.part_of(progress, passes - 1, passes))
    if lossless and not np.array_equal(decoded, image):
      raise UserError(f'{source} was not coded: its file would not decode to it')
    return Encoded(container.write(header, segments), header, segments, decoded)

  def decode(
      self, data: Buffer, partial: bool = False, temperature: float = 0.0,
      progress: Progress | None = None, source: str = 'the file',
  ) -> tuple[np.ndarray, container.Header, list[container.Segment]]:
    """The bytes of a file to an image.

    Args:
      data: bytes, bytearray, memoryview, or a uint8 array of NumPy or JAX.
      partial: accept a file cut anywhere, and leave out the last segments of a file of another
        machine until the rest decodes here.
      temperature: of the prior that generates missing groups, 0..10.
      progress: called with how much of the work is done, and how much there is.
      source: the file's name in messages.
    Returns:
      ([H, W, C] uint8, `container.Header`, [`container.Segment`]).
    Raises:
      UserError: damaged data, of another model, or of a machine whose floats differ too much.
    """
    data = arguments.file_bytes(data, source)
    arguments.number(temperature, 'temperature', 0, 10)
    self.check_posterior(QUANTISED)
    header, segments = container.read(data, partial, source=source)
    validation.check_header(self, source, header)
    validation.check_groups(self, source, header)
    tiling = self._tiling(header, source)
    validation.check_something_stored(self, source, segments, tiling)
    while True:
      try:
        image = self._decode(header, tiling, segments, temperature, progress)
        return image, header, segments
      except range_coder.Undecodable as e:
        if len(segments) < 2 or not partial:
          raise validation.other_machine(
              source, header, '' if partial else '; --partial gives a coarser image') from e
        segments = segments[:-1]

  def decode_prefixes(
      self, header: container.Header, segments: list[container.Segment],
      counts: Sequence[int] | None = None) -> list[np.ndarray]:
    """The images of a file at truncation points: [H, W, C] uint8 each.

    A lossy file of an embedded model takes the time of its last truncation point alone. Without
    latents there is the whole image alone.

    Args:
      header, segments: as of `Encoded`.
      counts: of segments, ascending; None: 0, 1, ... all.
    """
    tiling = self._tiling(header)
    counts = range(len(segments) + 1) if counts is None else counts
    if self.lossless_only:
      return [self._decode(header, tiling, segments)]
    if header.mode == container.LOSSLESS or not self.model.embedded:
      return [self._decode(header, tiling, segments[:count]) for count in counts]
    size = header.height, header.width, header.channels
    images = {count: np.zeros(size, np.uint8) for count in counts}
    for count, tiles, numbers in self._decode_truncated(header, tiling, segments, counts):
      tiling.paste(images[count], tiles, numbers)
    return list(images.values())

  def archive(
      self, images: arguments.Array, names: Sequence[str], source: str = 'the archive',
  ) -> tuple[bytes, int, bits_back.Rates]:
    """Many images to the bytes of an archive, which are decoded and compared.

    Args:
      images: [N, H, W, C] uint8 of 0..grey_levels-1, of NumPy or JAX, N > 0; at most
        `tiling.max_pixels` pixels each.
      names: N, of their files.
      source: the images' name in messages.
    Returns:
      (bytes, number of initial bits, `bits_back.Rates`).
    Raises:
      UserError: images or names that cannot be archived.
    """
    self.check_posterior(GAUSSIAN)
    images, names = validation.archive(self, source, images, names)
    count, height, width, channels = images.shape
    header = archive_lib.Header(
        count, width, height, channels, self.model.pixels.grey_levels, 0, SEED, self.fingerprint,
        self.name, validation.jax_version())
    network_ = self._archive_network(header, source)
    payload, initial_bits, rates = bits_back.encode(network_, images, SEED)
    if not np.array_equal(bits_back.decode(network_, payload, len(images), SEED), images):
      raise UserError(f'{source} was not archived: it would not decode to its images')
    header = header._replace(initial_bits=initial_bits)
    return archive_lib.write(header, names, payload), initial_bits, rates

  def extract(
      self, data: Buffer, source: str = 'the archive') -> tuple[np.ndarray, Sequence[str]]:
    """The bytes of an archive, as `decode` takes them, to ([N, H, W, C] uint8, names).

    Raises:
      UserError: damaged data, or of another model.
    """
    data = arguments.file_bytes(data, source)
    self.check_posterior(GAUSSIAN)
    header, names, payload = archive_lib.read(data, source=source)
    validation.check_header(self, source, header)
    network_ = self._archive_network(header, source)
    try:
      return bits_back.decode(network_, payload, header.count, header.seed), names
    except range_coder.Undecodable as e:
      raise validation.other_machine(source, header, '') from e

  def _header(self, image, lossless, tile_side):
    height, width, channels = image.shape
    if tile_side is None:
      tile_side = tiling_lib.default_tile_side((height, width), self._max_pixels)
    grouping = container.EACH
    if lossless and not self.lossless_only:
      grouping = container.ALL if height * width < MIN_PIXELS_TO_CUT else container.DOUBLING
    return container.Header(
        container.LOSSLESS if lossless else container.LOSSY, width, height, channels,
        self.model.pixels.grey_levels, self.model.iterations, tile_side, grouping, SEED,
        self.fingerprint, self.name, validation.jax_version())

  @property
  def _max_pixels(self):
    return tiling_lib.max_pixels(0 if self.lossless_only else self.model.stride)

  def _tiling(self, header, source='the image'):
    tiling = tiling_lib.tiling(
        (header.height, header.width), header.tile_side, self._max_pixels)
    validation.check_tile(self, source, tiling.tile_size, self._max_pixels)
    return tiling

  def _network_of(self, tiling):
    return self._network(tiling.tile_size, tiling.batch)

  def _tile_codec_of(self, tiling, header):
    size = tiling_lib.padded_size(tiling.tile_size)
    return self._tile_codec(size, tiling.batch, header.channels)

  def _archive_network(self, header, source):
    tiling = tiling_lib.tiling((header.height, header.width), 0, self._max_pixels)
    validation.check_tile(self, source, tiling.tile_size, self._max_pixels)
    return self._network_of(tiling)

  def _encode_lossless(self, header, tiling, image, effort, progress):
    """The segments of a lossless file."""
    if not self.lossless_only:
      return lossy.encode(
          self._network_of(tiling), tiling, image, container.ends(header), SEED, True,
          progress=progress)
    codec = self._tile_codec_of(tiling, header)
    data = lossless.encode(codec, tiling, image, effort, progress)
    return [container.Segment(container.PIXELS, container.PIXELS_INDEX, data)]

  def _decode(self, header, tiling, segments, temperature=0.0, progress=None):
    """[H, W, C] uint8 of a file's segments, or of the first of them."""
    if self.lossless_only:
      codec = self._tile_codec_of(tiling, header)
      return lossless.decode(codec, tiling, segments[-1].payload, header.channels, progress)
    return lossy.decode(
        self._network_of(tiling), tiling, segments, container.ends(header), header.channels,
        header.seed, temperature, progress)

  def _decode_truncated(self, header, tiling, segments, counts):
    return lossy.decode_truncated(
        self._network_of(tiling), tiling, segments, container.ends(header), header.channels,
        header.seed, counts)

  def _trials(self, header, tiling, image, parts):
    """The `rate_control.Trials` of an image; the progress of each encoding is one of `parts`."""
    network_, ends = self._network_of(tiling), container.ends(header)
    peak = header.grey_levels - 1

    def encode(groups, qp_offset, optimisation, *shown):
      return lossy.encode(network_, tiling, image, ends[:groups], SEED, False, qp_offset,
                          next(parts), optimisation, *shown)

    def measure(counts):
      """(a function that takes what `decode_truncated` yields, a count's PSNR by then)."""
      errors = dict.fromkeys(counts, 0.0)

      def add(count, tiles, numbers):
        errors[count] += tiling.squared_error(image, tiles, numbers)

      return add, lambda count: quality.psnr_of(errors[count] / image.size, peak)

    def psnrs(segments, counts):
      if not self.model.embedded:
        return [quality.psnr_db(image, self._decode(header, tiling, segments[:count]), peak)
                for count in counts]
      add, psnr = measure(counts)
      for decoded in self._decode_truncated(header, tiling, segments, counts):
        add(*decoded)
      return [psnr(count) for count in counts]

    def encode_measured(groups, qp_offset, optimisation, counts, enough=math.inf):
      if not self.model.embedded:
        segments = encode(groups, qp_offset, optimisation)
        return segments, psnrs(segments, counts)
      add, psnr = measure(counts)

      def decoded(count, *tiles):
        add(count, *tiles)
        return psnr(count) >= enough

      segments = encode(groups, qp_offset, optimisation, counts, decoded)
      return segments, [psnr(count) for count in counts if count <= len(segments)]

    return rate_control.Trials(
        encode, encode_measured, psnrs, lambda segments: len(container.write(header, segments)))

"""The same images stored by our codec and by the classical ones: what it costs and what is left.

Sizes are those of whole files. Two protocols: 'sheet' stores 100 images as one picture, so that
small images do not pay for a header each (the paper's protocol for the classical codecs; ours codes
the images on it one by one, as tiles); 'single' stores each in a file of its own.
"""

import time
from typing import NamedTuple

import numpy as np

from conv_draw.codec import image_files
from conv_draw.codec.format import container
from conv_draw.codec.study import classical, quality
from conv_draw.errors import UserError
from conv_draw.report import pictures

OURS = 'conv DRAW'
PROTOCOLS = ('sheet', 'single')
SHEET = 100  # images on a sheet
COLUMNS = 10


class Point(NamedTuple):
  """One way to store all the images, and what came of it."""

  protocol: str
  codec: str
  setting: str
  lossless: bool
  bits_per_dim: float  # of whole files
  psnr_db: float
  similarity: float  # MS-SSIM or SSIM
  decoded: np.ndarray | None  # [N, H, W, C] uint8, of lossy ones


class Speed(NamedTuple):
  """Of coding some images."""

  what: str
  images: int
  megabytes: float  # of pixels
  encode_seconds: float  # with the decoding that checks it
  decode_seconds: float
  coder_seconds: float  # of encode_seconds, outside the network


def compare(coder, images, progress=print):
  """Stores images [N, H, W, C] uint8 of 0..grey_levels-1 in every way: ([`Point`], [`Speed`]).

  Raises:
    UserError: a sheet of them would be larger than the classical codecs hold.
  """
  side, most = max(_parts(images)[0].shape), image_files.FORMATS['.webp'].max_side
  if side > most:
    raise UserError(
        f'a sheet of these images would have {side} pixels a side, and WebP holds {most}: '
        'study fewer (--images=8), or smaller ones')
  shown = to_bytes(images, coder.model.pixels.grey_levels)
  points, speeds = [], []
  for protocol in PROTOCOLS:
    of_protocol = _parts(images) if protocol == 'sheet' else list(images)
    progress(f'{protocol}: ours')
    found, speed = _ours(coder, protocol, of_protocol, images, shown)
    points += found
    speeds += speed
    parts = [to_bytes(part, coder.model.pixels.grey_levels) for part in of_protocol]
    for setting in classical.lossless() + classical.lossy():
      progress(f'{protocol}: {setting.codec}, {setting.name}')
      points.append(_classical(protocol, setting, parts, shown))
  return points, speeds


def to_bytes(images, grey_levels):
  """Values 0..grey_levels-1 as 0..255."""
  return np.rint(images * (255 / (grey_levels - 1))).astype(np.uint8)


def at_rate(points, rate):
  """The `Point` of the best PSNR among those of at most `rate` bits/dim; None if there is none."""
  return max((p for p in points if p.bits_per_dim <= rate), key=lambda p: p.psnr_db, default=None)


def _ours(coder, protocol, parts, images, shown):
  """([`Point`] of every number of groups and lossless, [`Speed`])."""
  tile_side = max(images.shape[1:3]) if protocol == 'sheet' else None
  coder.encode(parts[0], True, tile_side=tile_side)  # compiles
  points, speeds = [], []
  for lossless in (False, True):
    started, network_seconds = time.perf_counter(), coder.clock.seconds
    coded = [coder.encode(part, lossless, tile_side=tile_side) for part in parts]
    encoded = time.perf_counter()
    network_seconds = coder.clock.seconds - network_seconds
    for part, file in zip(parts, coded, strict=True):
      decoded, _, _ = coder.decode(file.data)
      assert np.array_equal(decoded, part if lossless else file.decoded)
    speeds.append(Speed(
        f'{protocol}, {"lossless" if lossless else "lossy"}', len(images), images.size / 1e6,
        encoded - started, time.perf_counter() - encoded,
        encoded - started - network_seconds))
    if lossless:
      size = sum(len(file.data) for file in coded)
      points.append(_point(protocol, OURS, 'lossless', True, size, None, shown))
      continue
    for groups in range(coder.model.iterations + 1):
      size, decoded = 0, []
      for file in coded:
        part = container.write(file.header, file.segments[:groups])
        size += len(part)
        decoded.append(coder.decode(part)[0])
      decoded = to_bytes(_images(decoded, images), coder.model.pixels.grey_levels)
      points.append(_point(
          protocol, OURS, f'{groups} groups', False, size, decoded, shown))
  return points, speeds


def _classical(protocol, setting, parts, shown):
  coded = [classical.encode(part, setting) for part in parts]
  size, decoded = sum(n for n, _ in coded), _images([d for _, d in coded], shown)
  lossless = setting in classical.lossless()
  assert not lossless or np.array_equal(decoded, shown), setting
  return _point(
      protocol, setting.codec, setting.name, lossless, size, None if lossless else decoded, shown)


def _point(protocol, codec, setting, lossless, size, decoded, shown):
  bits = size * 8 / shown.size
  if lossless:
    return Point(protocol, codec, setting, True, bits, float('inf'), 1.0, None)
  _, similarity = quality.similarity(shown, decoded)
  psnr_db = pictures.psnr_db(shown, decoded)
  return Point(protocol, codec, setting, False, bits, psnr_db, similarity, decoded)


def _parts(images):
  """[N, H, W, C] -> sheets of up to 100 images, [rows H, 10 W, C] each."""
  sheets = []
  for start in range(0, len(images), SHEET):
    part = images[start : start + SHEET]
    columns = min(COLUMNS, len(part))
    rows = -(-len(part) // columns)
    part = np.pad(part, ((0, rows * columns - len(part)), (0, 0), (0, 0), (0, 0)))
    _, h, w, c = part.shape
    sheets.append(part.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(
        rows * h, columns * w, c))
  return sheets


def _images(parts, like):
  """Undoes `_parts`, or stacks single images: [N, H, W, C] of `like`'s shape."""
  _, h, w, c = like.shape
  found = []
  for part in parts:
    rows, columns = part.shape[0] // h, part.shape[1] // w
    found.append(part.reshape(rows, h, columns, w, c).transpose(0, 2, 1, 3, 4).reshape(-1, h, w, c))
  return np.concatenate(found)[: len(like)]

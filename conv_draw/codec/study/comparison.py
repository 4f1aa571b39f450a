"""The same images stored by our codec and by the classical ones: what it costs and what is left.

Sizes are those of whole files. Two protocols: 'sheet' stores 100 images as one picture, so that
small images do not pay for a header each (the paper's protocol for the classical codecs; ours codes
the images on it one by one, as tiles); 'single' stores each in a file of its own.
"""

import concurrent.futures
import os
import sys
import time
from typing import NamedTuple

import numpy as np

from conv_draw import quality
from conv_draw.codec import image_files, output_paths, rate_control
from conv_draw.codec.format import container
from conv_draw.codec.study import classical
from conv_draw.data import sets
from conv_draw.errors import UserError
from conv_draw.machine import startup
from conv_draw.report import pictures
from conv_draw.workdir import config as config_lib

OURS = 'ours'
# What was not stored is drawn from the prior, with full variance: of sheets, at the paper's rates.
FULL_VARIANCE = 'ours, full variance'
PROTOCOLS = ('sheet', 'single')
SHEET = 100  # images on a sheet
COLUMNS = 10
QP_OFFSETS = [offset for offset in rate_control.COARSE_OFFSETS if offset >= 0]
SHOWN = 10  # images that are kept as they were decoded


class Point(NamedTuple):
  """One way to store all the images, and what came of it."""

  protocol: str
  codec: str
  setting: str
  lossless: bool
  bits_per_dim: float  # of whole files
  psnr_db: float  # of the mean squared error over all images
  mean_psnr_db: float  # of each image, on average
  similarity: float  # MS-SSIM or SSIM
  decoded: list | None  # of lossy ones, the first `SHOWN` images, [H, W, C] uint8


class Speed(NamedTuple):
  """Of coding some images."""

  what: str
  images: int
  megabytes: float  # of pixels
  encode_seconds: float  # of lossy ones with the decoding that says what they decode to
  decode_seconds: float
  peak_gib: float | None  # the most memory that this process has held so far, where that is known


def compare(coder, images, protocols=PROTOCOLS, effort=0, progress=print):
  """Stores images in every way; of a model without latents, in every lossless way.

  Args:
    images: [H, W, C] uint8 each, of 0..grey_levels-1; of one size for 'sheet'.
    effort: the most of `Coder.encode` that is tried, beside 0; for lossless files.
  Returns:
    ([`Point`], [`Speed`]).
  Raises:
    UserError: a sheet of them would be larger than the classical codecs hold; or effort with a
      model that is not an integer network.
  """
  if effort and not coder.head:
    raise UserError(
        f'the model {coder.name} has no integer network to be tuned to images: --effort=0')
  points, speeds = [], []
  for protocol, parts in _parts(images, protocols).items():
    progress(f'{protocol}: ours')
    found, speed = _ours(coder, protocol, parts, images, effort)
    points += found
    speeds += speed
  return points + rivals(coder, images, protocols, progress), speeds


def compare_lossy(coders, images, protocols=PROTOCOLS, progress=print):
  """`compare` of lossy files alone, of several models: all their points are one curve.

  Of the models of several beta, each is at its best in a range of rates (the paper's figure 3). The
  settings name the model.

  Raises:
    UserError: a model writes no lossy files; or as `compare`.
  """
  for coder in coders:
    if coder.lossless_only:
      raise UserError(f'the model {coder.name} writes no lossy files: name it by --workdir, alone')
  points, speeds = [], []
  for coder in coders:
    for protocol, parts in _parts(images, protocols).items():
      progress(f'{protocol}: {coder.name}')
      found, speed = _ours(coder, protocol, parts, images, 0, lossless=False)
      points += [p._replace(setting=f'{p.setting} of {coder.name}') for p in found]
      speeds += [s._replace(what=f'{s.what}, {coder.name}') for s in speed]
  return points + rivals(coders[0], images, protocols, progress, lossless=False), speeds


def rivals(coder, images, protocols=PROTOCOLS, progress=print, lossless=True):
  """[`Point`] of the classical codecs alone, in the ways in which a coder's model stores images.

  Args:
    lossless: whether lossless files too.
  Raises:
    UserError: a sheet of the images would be larger than these codecs hold.
  """
  settings = (classical.lossless() if lossless and not coder.lossy_only else []) + (
      [] if coder.lossless_only else classical.lossy())
  levels, points = coder.model.pixels.grey_levels, []
  for protocol, parts in _parts(images, protocols).items():
    parts, shown = ([pictures.to_bytes(i, levels) for i in some] for some in (parts, images))
    for setting in settings:
      progress(f'{protocol}: {setting.codec}, {setting.name}')
      points.append(_classical(protocol, setting, parts, shown))
  return points


def folder(path, model):
  """The images in a folder, [H, W, C] uint8 each, if a model takes them.

  Raises:
    UserError: no images there, or of a kind that the model does not take.
  """
  names, _ = output_paths.listing(path, image_files.extensions())
  if model.pixels.grey_levels != 256:
    raise UserError(f'{path} holds 8-bit images, which the model does not take: name another run')
  images = [image_files.read(os.path.join(path, name))[0] for name in names]
  for name, image in zip(names, images, strict=True):
    if image.shape[-1] > model.channels:
      raise UserError(
          f'{os.path.join(path, name)} has colours, which the model does not take: name a run of '
          'colour images')
  return images


def test_split(workdir, data_dir=None):
  """The data that a run's model is tested on, in its own data.data_dir or in another one.

  Raises:
    UserError: it is not there.
  """
  data_config = config_lib.load(workdir).data.copy_and_resolve_references()
  if data_dir is not None:
    data_config.data_dir = os.path.expanduser(data_dir)
  try:
    return sets.load(data_config, 'test')
  except UserError as e:
    raise UserError(str(e).replace('--config.data.data_dir', '--data_dir')) from None


def _parts(images, protocols):
  """Protocol -> what goes into a file each, [H, W, C] uint8."""
  parts_of = {name: _sheets(images) if name == 'sheet' else list(images) for name in protocols}
  side = max(max(part.shape) for parts in parts_of.values() for part in parts)
  most = image_files.FORMATS['.webp'].max_side
  if side > most:
    raise UserError(
        f'a sheet of these images would have {side} pixels a side, and WebP holds {most}: '
        'study fewer (--images=8), or smaller ones')
  return parts_of


def at_rate(points, rate):
  """The `Point` of the best PSNR among those of at most `rate` bits/dim; None if there is none."""
  return max((p for p in points if p.bits_per_dim <= rate), key=lambda p: p.psnr_db, default=None)


def interpolated(points, rate, measure='psnr_db'):
  """A measure at a rate between those of two points of one kind of setting, of the best kind.

  Linear in the logarithm of the rate. None if no kind has points on both sides of it, or at it.

  Args:
    points: of one codec.
    measure: 'psnr_db', 'mean_psnr_db' or 'similarity'.
  """
  found = [
      float(np.interp(np.log(rate), np.log([p.bits_per_dim for p in of_kind]),
                      [getattr(p, measure) for p in of_kind]))
      for of_kind in _curves(points, measure)
      if of_kind[0].bits_per_dim <= rate <= of_kind[-1].bits_per_dim]
  return max(found, default=None)


def curve(points, measure='psnr_db'):
  """[(rate, measure)] of the best kind of setting, at the rate of every point on a curve."""
  rates = sorted({p.bits_per_dim for found in _curves(points, measure) for p in found})
  return [(rate, interpolated(points, rate, measure)) for rate in rates]


def _curves(points, measure):
  """The points of one codec by kind of setting, `_rising` each; ours are all of one kind."""
  kinds = {}
  for point in points:
    kind = '' if point.codec.startswith(OURS) else point.setting.rpartition(' ')[0]
    kinds.setdefault(kind, []).append(point)
  return [_rising(found, measure) for found in kinds.values()]


def _rising(points, measure):
  """Those that no cheaper one beats by a measure, the cheapest first."""
  found, most = [], -float('inf')
  for point in sorted(points, key=lambda p: (p.bits_per_dim, -getattr(p, measure))):
    if getattr(point, measure) > most:
      found.append(point)
      most = getattr(point, measure)
  return found


def _ours(coder, protocol, parts, images, most_effort, lossless=True):
  """([`Point`] of every number of groups and, if `lossless`, of lossless files, [`Speed`])."""
  tile_side = max(images[0].shape[:2]) if protocol == 'sheet' else None
  levels = coder.model.pixels.grey_levels
  shown = [pictures.to_bytes(image, levels) for image in images]
  for part in {part.shape: part for part in parts}.values():
    coder.encode(part, lossless and not coder.lossy_only, tile_side=tile_side)  # compiles
  points, speeds = [], []
  ways = [(True, effort) for effort in range(most_effort + 1)]
  if coder.lossy_only or not lossless:
    ways = []
  for exact, effort in ways if coder.lossless_only else [(False, 0), *ways]:
    with_effort = f', effort {effort}' * (effort > 0)
    started = time.perf_counter()
    coded = [coder.encode(part, exact, tile_side=tile_side, verify=False, effort=effort)
             for part in parts]
    encoded = time.perf_counter()
    for part, file in zip(parts, coded, strict=True):
      decoded, _, _ = coder.decode(file.data)
      assert np.array_equal(decoded, part if exact else file.decoded)
    speeds.append(Speed(
        f'{protocol}, {"lossless" if exact else "lossy"}{with_effort}', len(images),
        sum(image.size for image in images) / 1e6, encoded - started,
        time.perf_counter() - encoded, _peak_gib()))
    if exact:
      size = sum(len(file.data) for file in coded)
      points.append(_point(protocol, OURS + with_effort, 'lossless', True, size, None, shown))
      continue
    for qp_offset in QP_OFFSETS if coder.model.embedded else (0,):
      at_offset = coded if not qp_offset else [
          coder.encode(part, qp_offset=qp_offset, tile_side=tile_side) for part in parts]
      truncated = [coder.decode_prefixes(file.header, file.segments) for file in at_offset]
      for groups in range(coder.model.iterations + 1):
        size = sum(len(container.write(file.header, file.segments[:groups])) for file in at_offset)
        decoded = [pictures.to_bytes(image, levels) for image in _images(
            protocol, [images[groups] for images in truncated], images)]
        setting = f'{groups} groups' + f', offset {qp_offset}' * (qp_offset > 0)
        if not qp_offset or _improves(points, size, decoded, shown):
          points.append(_point(protocol, OURS, setting, False, size, decoded, shown))
    if protocol == 'sheet':
      points += _full_variance(coder, coded, points, images, shown)
  return points, speeds


def _improves(points, size, decoded, shown):
  """Whether no point is as small and as good."""
  bits_per_dim, psnr_db = _rate(size, shown), _psnr(decoded, shown)
  return all(p.lossless or p.bits_per_dim > bits_per_dim or p.psnr_db < psnr_db for p in points)


def _full_variance(coder, coded, points, images, shown):
  """`Point`s that ours has at the paper's rates, with the rest drawn from the prior."""
  ours = [p for p in points if p.codec == OURS and not p.lossless and 'offset' not in p.setting]
  found = []
  for groups in sorted({ours.index(at_rate(ours, rate)) for rate in pictures.PAPERS_RATES
                        if at_rate(ours, rate)}):
    files = [container.write(file.header, file.segments[:groups]) for file in coded]
    decoded = _images('sheet', [coder.decode(file, temperature=1.0)[0] for file in files], images)
    levels = coder.model.pixels.grey_levels
    found.append(_point(
        'sheet', FULL_VARIANCE, f'{groups} groups', False, sum(map(len, files)),
        [pictures.to_bytes(image, levels) for image in decoded], shown))
  return found


def _classical(protocol, setting, parts, shown):
  with concurrent.futures.ThreadPoolExecutor(startup.cores()) as pool:
    coded = list(pool.map(lambda part: classical.encode(part, setting), parts))
  size, decoded = sum(n for n, _ in coded), _images(protocol, [d for _, d in coded], shown)
  lossless = setting in classical.lossless()
  assert not lossless or all(map(np.array_equal, decoded, shown)), setting
  return _point(
      protocol, setting.codec, setting.name, lossless, size, None if lossless else decoded, shown)


def _point(protocol, codec, setting, lossless, size, decoded, shown):
  bits = _rate(size, shown)
  if lossless:
    return Point(protocol, codec, setting, True, bits, float('inf'), float('inf'), 1.0, None)
  similarity = quality.similarity(shown, decoded)
  mean_psnr_db = float(np.mean(list(map(quality.psnr_db, shown, decoded))))
  return Point(
      protocol, codec, setting, False, bits, _psnr(decoded, shown), mean_psnr_db, similarity,
      decoded[:SHOWN])


def _rate(size, shown):
  """Bits/dim of so many bytes."""
  return size * 8 / sum(image.size for image in shown)


def _psnr(decoded, shown):
  """In dB, of the mean squared error over all images."""
  flat = lambda images: np.concatenate([image.ravel() for image in images])
  return quality.psnr_db(flat(shown), flat(decoded))


def _peak_gib():
  try:
    import resource  # not on Windows
  except ImportError:
    return None
  unit = 2**30 if sys.platform == 'darwin' else 2**20
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _sheets(images):
  """Images of one size -> sheets of up to 100 of them, [rows H, 10 W, C] each."""
  sheets = []
  for start in range(0, len(images), SHEET):
    part = np.stack(images[start : start + SHEET])
    columns = min(COLUMNS, len(part))
    rows = -(-len(part) // columns)
    part = np.pad(part, ((0, rows * columns - len(part)), (0, 0), (0, 0), (0, 0)))
    _, h, w, c = part.shape
    sheets.append(part.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(
        rows * h, columns * w, c))
  return sheets


def _images(protocol, parts, like):
  """Undoes `_sheets` if that is the protocol: images as many and as large as `like`."""
  if protocol == 'single':
    return parts
  h, w, c = like[0].shape
  found = []
  for part in parts:
    rows, columns = part.shape[0] // h, part.shape[1] // w
    found += list(
        part.reshape(rows, h, columns, w, c).transpose(0, 2, 1, 3, 4).reshape(-1, h, w, c))
  return found[: len(like)]

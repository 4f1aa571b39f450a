"""Image files and folders to coded files and back, for the command line."""

import concurrent.futures
import functools
import math
import os
import sys
from typing import NamedTuple

import numpy as np

from conv_draw import quality
from conv_draw.codec import coder as coder_lib
from conv_draw.codec import image_files, output_paths, rate_control, viewer
from conv_draw.codec.format import archive as archive_lib
from conv_draw.codec.format import container, reading
from conv_draw.errors import UserError
from conv_draw.machine import startup
from conv_draw.workdir import published

EXTENSION = '.cdraw'
ERASED = '\r\x1b[K'  # erases a terminal's line
USED = 0.9  # of a rate: a note says that a file of all groups takes less
# The packaged models of commands that name no run.
LOSSY_MODEL, LOSSLESS_MODEL = 'photos_lossy', 'photos_lossless'


class Line(NamedTuple):
  """The output of a command about one file, or about all of them."""

  text: str
  failed: bool = False
  note: bool = False  # for stderr, though nothing failed
  fields: dict | None = None  # the same for programs


def encode(source, path, workdir=None, lossless=False, groups=None, bits_per_dim=None, psnr=None,
           tile_side=None, verify=True, effort=0, overwrite=False):
  """Writes the image file `source` to the coded file `path`; or those of a folder into a folder.

  A file is written after it has been decoded and, lossless, compared. Images of a folder that
  cannot be coded are named and left out. A note names a limit that all groups of the model miss.

  Args:
    workdir: of the model; None: a packaged model.
    lossless, groups, bits_per_dim, psnr, tile_side, verify, effort: as of `coder.Coder.encode`;
      without a limit, an embedded model stores as few groups as have `rate_control.DEFAULT_PSNR`.
    overwrite: whether files that exist may be replaced; input files never are.
  Yields:
    `Line`s: the size of every file, when it has been written.
  Raises:
    UserError: the only image cannot be coded, or there is nothing to code or no place to write.
  """
  plan = output_paths.plan(source, path, image_files.extensions(), EXTENSION, overwrite)
  coder = coder_lib.Coder.load(
      workdir or published.path(LOSSLESS_MODEL if lossless else LOSSY_MODEL))
  coder.check_posterior(coder_lib.QUANTISED)
  if groups is not None and groups > coder.model.iterations:
    raise UserError(
        f'{groups} groups were asked for, and the model {coder.name} has {coder.model.iterations}: '
        'ask for no more')
  sizes, dropped, unmet = [], {}, []
  wanted = dict(groups=groups, bits_per_dim=bits_per_dim, psnr=psnr)
  if not lossless and coder.model.embedded and set(wanted.values()) == {None}:
    # A search of the offset would take ten times as long.
    wanted |= dict(psnr=rate_control.DEFAULT_PSNR, qp_offset=0)

  def encode_one(image_path, coded_path):
    image, dropped[image_path] = image_files.read(image_path)
    coded = coder.encode(
        image, lossless, tile_side=tile_side, verify=verify, effort=effort,
        progress=_progress(image_path, plan), source=image_path, **wanted)
    reading.check_size(coded_path, coded.data)
    output_paths.write(coded_path, coded.data, plan.folder, overwrite)
    sizes.append((image.size, len(coded.data)))
    text, fields = _report(coded_path, image, coded, coder.model, lossless)
    unmet.extend(_unmet(fields, coder.model.iterations, groups, bits_per_dim, psnr))
    return text, fields

  def summary(count):
    dims, size = map(sum, zip(*sizes, strict=True)) if sizes else (1, 0)
    return f'{count} images, {size:,} bytes, {8 * size / dims:.4f} bits/dim'

  yield from _each(plan, encode_one, source, summary, _at_once(coder))
  if unmet:
    yield Line(unmet[0] + (f'; {len(unmet) - 1} more likewise' if unmet[1:] else ''), note=True)
  yield from _not_kept({path: dropped[path] for path, _ in plan.pairs if path in dropped})


def decode(path, target, workdir=None, partial=False, temperature=0.0, overwrite=False):
  """Writes the image in the coded file `path` to the image file `target`; or those of a folder.

  Args:
    workdir: of the model; None: the packaged model that coded the file.
    partial, temperature: as of `coder.Coder.decode`.
    overwrite: as of `encode`.
  Yields:
    `Line`s about the decoded images.
  Raises:
    UserError: the only file is damaged or of another model; or an image format that cannot hold
      the image.
  """
  plan = output_paths.plan(path, target, (EXTENSION,), '.png', overwrite)
  formats = {
      image_path: image_files.format_of('it.png' if image_path == output_paths.PIPE else image_path)
      for _, image_path in plan.pairs}
  load, at_once = functools.cache(coder_lib.Coder.load), 1
  if workdir:
    load(workdir).check_posterior(coder_lib.QUANTISED)
    at_once = _at_once(load(workdir))
  elif len(plan.pairs) > 1:
    at_once = _at_once(load(published.path(LOSSLESS_MODEL)))

  def decode_one(coded_path, image_path):
    format_, data = formats[image_path], reading.read_file(coded_path)
    header, _ = container.read(data, partial, source=coded_path)
    image_files.check_holds(image_path, format_, header.width, header.height, header.channels)
    coder = load(workdir or _packaged(header.name, coded_path))
    image, _, segments = coder.decode(
        data, partial, temperature, _progress(coded_path, plan), source=coded_path)
    written, exact = image_files.to_bytes(image_path, image, format_)
    output_paths.write(image_path, written, plan.folder, overwrite)
    groups = max((s.index for s in segments if s.kind == container.LATENTS), default=0)
    what = f'{groups} of {header.groups} groups'
    if any(segment.kind == container.PIXELS for segment in segments):
      what = 'lossless' if exact else f'decoded exactly, but {format_.name} changes pixels'
    return f'{image_path}: {header.width}x{header.height}, {what}', {
        'file': image_path, 'width': header.width, 'height': header.height,
        'channels': header.channels, 'groups': groups, 'lossless': what == 'lossless'}

  yield from _each(plan, decode_one, path, lambda count: f'{count} files decoded', at_once)


def view(path, target=None, workdir=None, overwrite=False):
  """Writes a page about the coded file `path`, as `viewer.view`.

  Args:
    workdir: of the model; None: the packaged model that coded the file.
  Yields:
    A `Line` with the size of the page.
  """
  load = lambda header: coder_lib.Coder.load(workdir or _packaged(header.name, path))
  text, fields = viewer.view(path, load, target, overwrite)
  yield Line(text, note=target == output_paths.PIPE, fields=fields)


def archive(folder, path, workdir, overwrite=False):
  """Writes the images in `folder`, all of one size and kind, to the archive `path`.

  Args:
    overwrite: as of `encode`.
  Yields:
    A `Line` with the size of the archive.
  Raises:
    UserError: images of different sizes or kinds, or that the model does not take.
  """
  folder, path = os.fspath(folder), os.fspath(path)
  names, others = output_paths.listing(folder, image_files.extensions())
  sources = [os.path.join(folder, name) for name in names]
  output_paths.check(sources, [path], overwrite)
  images, others_of = zip(*map(image_files.read, sources), strict=True)
  for source, image in zip(sources, images, strict=True):
    if image.shape != images[0].shape:
      raise UserError(
          f'{source} is {_kind(image)} where {names[0]} is {_kind(images[0])}: '
          'an archive holds images of one size and kind')
  images = np.stack(images)
  data, initial_bits, costs = coder_lib.Coder.load(workdir).archive(images, names, source=folder)
  reading.check_size(path, data)
  output_paths.write(path, data, None, overwrite)
  count, height, width, channels = images.shape
  dims, piped = height * width * channels, path == output_paths.PIPE
  yield Line(
      f'{path}: {count} images of {width}x{height}, {len(data):,} bytes; bits/dim: '
      f'{costs.net / dims:.4f} net, {8 * len(data) / count / dims:.4f} gross (whole file, with '
      f'{initial_bits:,} initial bits), {costs.expected / dims:.4f} expected', note=piped)
  for text in output_paths.left_out(folder, others):
    yield Line(text, note=piped)
  yield from _not_kept(dict(zip(sources, others_of, strict=True)))


def extract(path, folder, workdir, overwrite=False):
  """Writes the images of the archive `path` into `folder`, as PNG files.

  Args:
    overwrite: as of `encode`.
  Yields:
    A `Line` with the number of images.
  Raises:
    UserError: a damaged archive, or one of another model.
  """
  path, folder = os.fspath(path), os.fspath(folder)
  data = reading.read_file(path)
  _, names, _ = archive_lib.read(data, source=path)
  paths = [os.path.join(folder, name) for name in output_paths.renamed(names, '.png')]
  output_paths.check([path], paths, overwrite, folder)
  images, _ = coder_lib.Coder.load(workdir).extract(data, source=path)
  for target, image in zip(paths, images, strict=True):
    written, _ = image_files.to_bytes(target, image, image_files.format_of(target))
    output_paths.write(target, written, folder, overwrite)
  yield Line(f'{folder}: {len(images)} images')


def _packaged(name, source):
  """The workdir of the packaged model of that name."""
  if name not in published.names():
    raise UserError(
        f'{source} was coded with the model {name}, which does not come with this package: name '
        'its run with --workdir')
  return published.path(name)


def _progress(path, plan):
  """A function that shows the progress of a file on a terminal; None elsewhere."""
  if not sys.stderr.isatty():
    return None
  sources = [source for source, _ in plan.pairs]
  place = f'{sources.index(path) + 1}/{len(sources)} ' if sources[1:] else ''

  def show(done, total):
    text = f'{place}{path}: {100 * done // total} %'
    print(ERASED + (text if done < total else ''), end='', file=sys.stderr, flush=True)

  return show


def _at_once(coder):
  """The number of files that are coded at the same time."""
  return startup.cores() if coder.lossless_only else 1


def _each(plan, code, source, summary, at_once=1):
  """Yields `Line`s of `code(*pair)`, (text, fields) each; behind several files, a `summary`.

  An error of one of several files does not stop the others.
  """
  def one(pair):
    try:
      # Beside a file on standard output, lines go to standard error.
      text, fields = code(*pair)
      return Line(text, note=pair[1] == output_paths.PIPE, fields=fields)
    except UserError as e:
      if sys.stderr.isatty():  # which may show the progress
        print(ERASED, end='', file=sys.stderr, flush=True)
      if len(plan.pairs) == 1:
        raise
      return Line(str(e) if pair[0] in str(e) or pair[1] in str(e) else f'{pair[0]}: {e}', True)

  failed = 0
  with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
    try:
      for line in threads.map(one, plan.pairs) if at_once > 1 else map(one, plan.pairs):
        failed += line.failed
        yield line
    except BaseException:  # an error or an interrupt: cancel the files that have not begun
      threads.shutdown(wait=False, cancel_futures=True)
      raise
  if len(plan.pairs) > 1:
    yield Line(summary(len(plan.pairs) - failed) + (f'; {failed} failed' if failed else ''))
  yield from map(Line, output_paths.left_out(source, plan.others))


def _not_kept(dropped):
  """Yields a `Line` about metadata that is not stored, {path: names}, if there is any."""
  paths = {}
  for path, names in dropped.items():
    for name in names:
      paths.setdefault(name, []).append(path)
  if paths:
    yield Line('pixels alone are kept, not ' + ', '.join(
        f'{name} of {of[0]}' + (f' and {len(of) - 1} more' if of[1:] else '')
        for name, of in paths.items()), note=True)


def _report(path, image, coded, model, lossless):
  """(text, fields) of a `Line` about a coded image."""
  payload = 8 * sum(len(segment.payload) for segment in coded.segments)
  psnr_db = quality.psnr_db(image, coded.decoded, model.pixels.grey_levels - 1)
  stored = 'lossless' if lossless else (
      f'{len(coded.segments)} of {model.iterations} groups, PSNR {psnr_db:.2f} dB')
  height, width, channels = image.shape
  rate = 8 * len(coded.data) / image.size
  return (
      f'{path}: {width}x{height}, {stored}; {len(coded.data):,} bytes, '
      f'{rate:.4f} bits/dim (payload {payload / image.size:.4f})'), {
          'file': path, 'width': width, 'height': height, 'channels': channels,
          'lossless': lossless, 'segments': len(coded.segments), 'bytes': len(coded.data),
          'bits_per_dim': rate, 'psnr_db': psnr_db if math.isfinite(psnr_db) else None}


def _unmet(fields, most, groups, bits_per_dim, psnr):
  """Yields a note about a limit that a lossy file misses, or leaves unused.

  Args:
    fields: of `_report`.
    most: the number of groups of its model.
    groups, bits_per_dim, psnr: the limits, or None.
  """
  file, stored, rate = fields['file'], fields['segments'], fields['bits_per_dim']
  reached = fields['psnr_db']  # None: exact
  everything = f'all {most} groups have no more: --lossless stores every pixel'
  if psnr is not None and reached is not None and psnr - reached > 1e-6:
    yield f'{file} has {reached:.2f} dB, not {psnr:g}: {everything}'
  elif bits_per_dim is not None and stored == most and rate < USED * bits_per_dim:
    yield f'{file} takes {rate:.4f} bits/dim, not {bits_per_dim:g}: {everything}'
  elif bits_per_dim is not None and groups is not None and stored < groups:
    yield f'{file} has {stored} of {groups} groups: the best of {bits_per_dim:g} bits/dim'


def _kind(image):
  return f'{image.shape[1]}x{image.shape[0]} {"grey" if image.shape[2] == 1 else "RGB"}'

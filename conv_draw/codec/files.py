"""Image files to coded files and back: what the command line does."""

import concurrent.futures
import functools
import math
import os
import sys
from typing import NamedTuple

import numpy as np

from conv_draw.codec import coder as coder_lib
from conv_draw.codec import image_files, rates, targets, viewing
from conv_draw.codec.format import archive_file, container, reading
from conv_draw.errors import UserError
from conv_draw.machine import startup
from conv_draw.report import pictures
from conv_draw.workdir import published

EXTENSION = '.cdraw'
ERASED = '\r\x1b[K'  # what stands in a terminal's line
USED = 0.9  # of a rate that was asked for; a file of all groups that takes less is said to
# The models that come with the package and code where no run is named.
LOSSY_MODEL, LOSSLESS_MODEL = 'photos_lossy', 'photos_lossless'


class Line(NamedTuple):
  """What there is to say of one file, or at the end of all."""

  text: str
  failed: bool = False
  note: bool = False  # for stderr, though nothing failed
  fields: dict | None = None  # the same for programs, of what was coded


def encode(source, path, workdir=None, lossless=False, groups=None, bits_per_dim=None, psnr=None,
           tile_side=None, verify=True, effort=0, overwrite=False):
  """Writes the image file `source` to the coded file `path`; or those of a folder into a folder.

  What is written has been decoded before; lossless, it was the image. Images in a folder that
  cannot be coded are said, and left. What a limit asks for beyond all groups of a model is said.

  Args:
    workdir: of the model; None: the one that comes with the package.
    lossless, groups, bits_per_dim, psnr, tile_side, verify, effort: as of `coder.Coder.encode`; but
      where no limit is given, of a model whose files are good at all rates, as few groups as have
      `rates.USUAL_PSNR`.
    overwrite: whether files that exist may be replaced; those that are read never are.
  Yields:
    `Line`s: of every file how large it is, as it is written.
  Raises:
    UserError: an image that the model cannot code, if it is the only one, or nothing that could be
      coded or written at all.
  """
  plan = targets.plan(source, path, image_files.extensions(), EXTENSION, overwrite)
  coder = coder_lib.Coder.load(
      workdir or published.path(LOSSLESS_MODEL if lossless else LOSSY_MODEL))
  coder.check_posterior(coder_lib.BINS)
  if groups is not None and groups > coder.model.iterations:
    raise UserError(
        f'{groups} groups were asked for, and the model {coder.name} has {coder.model.iterations}: '
        'ask for no more')
  sizes, dropped, unmet = [], {}, []
  wanted = dict(groups=groups, bits_per_dim=bits_per_dim, psnr=psnr)
  if not lossless and coder.model.embedded and set(wanted.values()) == {None}:
    wanted |= dict(psnr=rates.USUAL_PSNR, contrast=0)  # a search would take ten times as long

  def encode_one(image_path, coded_path):
    image, dropped[image_path] = image_files.read(image_path)
    coded = coder.encode(
        image, lossless, tile_side=tile_side, verify=verify, effort=effort,
        progress=_progress(image_path, plan), source=image_path, **wanted)
    reading.check_size(coded_path, coded.data)
    targets.write(coded_path, coded.data, plan.folder, overwrite)
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
    workdir: of the model; None: the one that comes with the package and coded the file.
    partial, temperature: as of `coder.Coder.decode`.
    overwrite: as of `encode`.
  Yields:
    `Line`s that say what was decoded.
  Raises:
    UserError: a damaged file, or one of another model, if it is the only one; an image file that
      could not hold what is in it.
  """
  plan = targets.plan(path, target, (EXTENSION,), '.png', overwrite)
  formats = {
      image_path: image_files.format_of('it.png' if image_path == targets.PIPE else image_path)
      for _, image_path in plan.pairs}
  load, at_once = functools.cache(coder_lib.Coder.load), 1
  if workdir:
    load(workdir).check_posterior(coder_lib.BINS)
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
    targets.write(image_path, written, plan.folder, overwrite)
    groups = max((s.index for s in segments if s.kind == container.LATENTS), default=0)
    what = f'{groups} of {header.groups} groups'
    if any(segment.kind == container.PIXELS for segment in segments):
      what = 'lossless' if exact else f'decoded exactly, but {format_.name} changes pixels'
    return f'{image_path}: {header.width}x{header.height}, {what}', {
        'file': image_path, 'width': header.width, 'height': header.height,
        'channels': header.channels, 'groups': groups, 'lossless': what == 'lossless'}

  yield from _each(plan, decode_one, path, lambda count: f'{count} files decoded', at_once)


def view(path, target=None, workdir=None, overwrite=False):
  """Writes a page about the coded file `path`, as `viewing.view`.

  Args:
    workdir: of the model; None: the one that comes with the package and coded the file.

  Yields:
    A `Line` that says how large the page is.
  """
  load = lambda header: coder_lib.Coder.load(workdir or _packaged(header.name, path))
  text, fields = viewing.view(path, load, target, overwrite)
  yield Line(text, note=target == targets.PIPE, fields=fields)


def archive(folder, path, workdir, overwrite=False):
  """Writes the images in `folder`, all of one size and kind, to the archive `path`.

  Args:
    overwrite: as of `encode`.
  Yields:
    A `Line` that says how large the archive is.
  Raises:
    UserError: images that do not go together or with the model.
  """
  folder, path = os.fspath(folder), os.fspath(path)
  names, others = targets.listing(folder, image_files.extensions())
  sources = [os.path.join(folder, name) for name in names]
  targets.check(sources, [path], overwrite)
  images, others_of = zip(*map(image_files.read, sources), strict=True)
  for source, image in zip(sources, images, strict=True):
    if image.shape != images[0].shape:
      raise UserError(
          f'{source} is {_kind(image)} where {names[0]} is {_kind(images[0])}: '
          'an archive holds images of one size and kind')
  images = np.stack(images)
  data, initial_bits, costs = coder_lib.Coder.load(workdir).archive(images, names, source=folder)
  reading.check_size(path, data)
  targets.write(path, data, None, overwrite)
  count, height, width, channels = images.shape
  dims, piped = height * width * channels, path == targets.PIPE
  yield Line(
      f'{path}: {count} images of {width}x{height}, {len(data):,} bytes; bits/dim: '
      f'{costs.net / dims:.4f} net, {8 * len(data) / count / dims:.4f} gross (whole file, with '
      f'{initial_bits:,} initial bits), {costs.expected / dims:.4f} expected', note=piped)
  for text in targets.left_out(folder, others):
    yield Line(text, note=piped)
  yield from _not_kept(dict(zip(sources, others_of, strict=True)))


def extract(path, folder, workdir, overwrite=False):
  """Writes the images of the archive `path` into `folder`, as PNG files.

  Args:
    overwrite: as of `encode`.
  Yields:
    A `Line` that says how many there were.
  Raises:
    UserError: a damaged archive, or one of another model.
  """
  path, folder = os.fspath(path), os.fspath(folder)
  data = reading.read_file(path)
  _, names, _ = archive_file.read(data, source=path)
  paths = [os.path.join(folder, name) for name in targets.renamed(names, '.png')]
  targets.check([path], paths, overwrite, folder)
  images, _ = coder_lib.Coder.load(workdir).extract(data, source=path)
  for target, image in zip(paths, images, strict=True):
    written, _ = image_files.to_bytes(target, image, image_files.format_of(target))
    targets.write(target, written, folder, overwrite)
  yield Line(f'{folder}: {len(images)} images')


def _packaged(name, source):
  """The workdir of the model of that name that comes with the package."""
  if name not in published.names():
    raise UserError(
        f'{source} was coded with the model {name}, which does not come with this package: name '
        'its run with --workdir')
  return published.path(name)


def _progress(path, plan):
  """What shows on a terminal how much of a file's work is done; None elsewhere.

  Of several files, also which of them it is.
  """
  if not sys.stderr.isatty():
    return None
  sources = [source for source, _ in plan.pairs]
  place = f'{sources.index(path) + 1}/{len(sources)} ' if sources[1:] else ''

  def show(done, total):
    text = f'{place}{path}: {100 * done // total} %'
    print(ERASED + (text if done < total else ''), end='', file=sys.stderr, flush=True)

  return show


def _at_once(coder):
  """How many files are coded side by side."""
  return startup.cores() if coder.lossless_only else 1


def _each(plan, code, source, summary, at_once=1):
  """Yields `Line`s of the texts and fields `code(*pair)`; of several, a `summary` of those coded.

  What one of several files cannot do does not keep the others from it.
  """
  def one(pair):
    try:
      # Beside what goes to standard output there is nothing else to be said there.
      text, fields = code(*pair)
      return Line(text, note=pair[1] == targets.PIPE, fields=fields)
    except UserError as e:
      if sys.stderr.isatty():  # where how much was done may stand
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
    except BaseException:  # an interrupt, too: what has not begun need not
      threads.shutdown(wait=False, cancel_futures=True)
      raise
  if len(plan.pairs) > 1:
    yield Line(summary(len(plan.pairs) - failed) + (f'; {failed} failed' if failed else ''))
  yield from map(Line, targets.left_out(source, plan.others))


def _not_kept(dropped):
  """Yields a `Line` about what in image files is not pixels, {path: names}, if there is such."""
  paths = {}
  for path, names in dropped.items():
    for name in names:
      paths.setdefault(name, []).append(path)
  if paths:
    yield Line('pixels alone are kept, not ' + ', '.join(
        f'{name} of {of[0]}' + (f' and {len(of) - 1} more' if of[1:] else '')
        for name, of in paths.items()), note=True)


def _report(path, image, coded, model, lossless):
  """(text, fields) of a `Line` about an image that was coded."""
  payload = 8 * sum(len(segment.payload) for segment in coded.segments)
  psnr_db = pictures.psnr_db(image, coded.decoded, model.pixels.grey_levels - 1)
  quality = 'lossless' if lossless else (
      f'{len(coded.segments)} of {model.iterations} groups, PSNR {psnr_db:.2f} dB')
  height, width, channels = image.shape
  rate = 8 * len(coded.data) / image.size
  return (
      f'{path}: {width}x{height}, {quality}; {len(coded.data):,} bytes, '
      f'{rate:.4f} bits/dim (payload {payload / image.size:.4f})'), {
          'file': path, 'width': width, 'height': height, 'channels': channels,
          'lossless': lossless, 'segments': len(coded.segments), 'bytes': len(coded.data),
          'bits_per_dim': rate, 'psnr_db': psnr_db if math.isfinite(psnr_db) else None}


def _unmet(fields, most, groups, bits_per_dim, psnr):
  """Yields what to say of a limit that a lossy file misses, or leaves unused.

  Args:
    fields: of `_report`.
    most: how many groups its model has.
    groups, bits_per_dim, psnr: what was asked for, or None.
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

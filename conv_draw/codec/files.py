"""Image files to coded files and back: what the command line does."""

import io
import os

import numpy as np
from PIL import Image

from conv_draw.codec import coder as coder_lib
from conv_draw.codec.format import container, reading
from conv_draw.data import folder as data_folder
from conv_draw.errors import UserError
from conv_draw.machine.files import write_file
from conv_draw.report import pictures

EXTENSION = '.cdraw'


def encode(source, path, workdir, lossless=False, groups=None, bits_per_dim=None, tile_side=None):
  """Writes the image file `source` to the coded file `path`; or those of a folder into a folder.

  What is written has been decoded before; lossless, it was the image.

  Args:
    lossless, groups, bits_per_dim, tile_side: as of `coder.Coder.encode`.
  Returns:
    Lines that say how large the files are.
  Raises:
    UserError: an image that the model cannot code. Files that were complete before stay.
  """
  coder = coder_lib.Coder.load(workdir)
  lines, dims, size = [], 0, 0
  pairs = _pairs(source, path, data_folder.EXTENSIONS, EXTENSION)
  for image_path, coded_path in pairs:
    image = data_folder.read(image_path)
    coded = coder.encode(image, lossless, groups, bits_per_dim, tile_side, source=image_path)
    reading.check_size(coded_path, coded.data)
    write_file(coded_path, coded.data)
    lines.append(_report(coded_path, image, coded, coder.model, lossless))
    dims, size = dims + image.size, size + len(coded.data)
  if len(pairs) > 1:
    lines.append(f'{len(pairs)} images, {size:,} bytes, {8 * size / dims:.4f} bits/dim')
  return '\n'.join(lines)


def decode(path, target, workdir, partial=False, temperature=0.0):
  """Writes the image in the coded file `path` to the image file `target`; or those of a folder.

  Args:
    partial, temperature: as of `coder.Coder.decode`.
  Returns:
    Lines that say what was decoded.
  Raises:
    UserError: a damaged file, or one of another model.
  """
  coder = coder_lib.Coder.load(workdir)
  lines = []
  for coded_path, image_path in _pairs(path, target, (EXTENSION,), '.png'):
    format_ = _format(image_path)
    data = reading.read_file(coded_path)
    image, header, segments = coder.decode(data, partial, temperature, source=coded_path)
    exact = _save(image_path, image, format_)
    groups = max((s.index for s in segments if s.kind == container.LATENTS), default=0)
    what = f'{groups} of {header.groups} groups'
    if any(segment.kind == container.PIXELS for segment in segments):
      what = 'lossless' if exact else f'decoded exactly, but {format_} changes pixels'
    lines.append(f'{image_path}: {header.width}x{header.height}, {what}')
  return '\n'.join(lines)


def archive(folder, path, workdir):
  """Writes the images in `folder`, all of one size and kind, to the archive `path`.

  Returns:
    One line that says how large the archive is.
  Raises:
    UserError: images that do not go together or with the model.
  """
  names = _names(folder, data_folder.EXTENSIONS)
  _renamed(folder, names, '.png')  # as they will be extracted
  images = [data_folder.read(os.path.join(folder, name)) for name in names]
  for name, image in zip(names, images, strict=True):
    if image.shape != images[0].shape:
      raise UserError(
          f'{os.path.join(folder, name)} is {_kind(image)} where {names[0]} is {_kind(images[0])}: '
          'an archive holds images of one size and kind')
  images = np.stack(images)
  data, initial_bits, rates = coder_lib.Coder.load(workdir).archive(images, names, source=folder)
  reading.check_size(path, data)
  write_file(path, data)
  count, height, width, channels = images.shape
  dims = height * width * channels
  return (
      f'{path}: {count} images of {width}x{height}, {len(data):,} bytes; bits/dim: '
      f'{rates.net / dims:.4f} net, {8 * len(data) / count / dims:.4f} gross (whole file, with '
      f'{initial_bits:,} initial bits), {rates.expected / dims:.4f} expected')


def extract(path, folder, workdir):
  """Writes the images of the archive `path` into `folder`, as PNG files; overwrites none.

  Returns:
    One line that says how many there were.
  Raises:
    UserError: a damaged archive, or one of another model.
  """
  data = reading.read_file(path)
  images, names = coder_lib.Coder.load(workdir).extract(data, source=path)
  paths = [os.path.join(folder, name) for name in _renamed(path, names, '.png')]
  for target in paths:
    if os.path.lexists(target):
      raise UserError(f'{target} would be overwritten: extract into an empty folder')
  os.makedirs(folder, exist_ok=True)
  for target, image in zip(paths, images, strict=True):
    _save(target, image, 'PNG')
  return f'{folder}: {len(images)} images'


def _pairs(source, target, extensions, new_extension):
  """[(file to read, file to write)]: one, or all those in a folder into another."""
  if not os.path.isdir(source):
    return [(source, target)]
  names = _names(source, extensions)
  targets = _renamed(source, names, new_extension)
  os.makedirs(target, exist_ok=True)
  return [
      (os.path.join(source, old), os.path.join(target, new))
      for old, new in zip(names, targets, strict=True)]


def _renamed(source, names, extension):
  """File names with another extension, which must leave them different."""
  renamed = [os.path.splitext(name)[0] + extension for name in names]
  for name in renamed:
    if renamed.count(name) > 1:
      raise UserError(f'two files in {source} would become {name}: rename one of them')
  return renamed


def _names(folder, extensions):
  names = sorted(n for n in os.listdir(folder) if n.lower().endswith(extensions)
                 and not n.startswith('.')) if os.path.isdir(folder) else []
  if not names:
    raise UserError(f'{folder} is no folder with files in it that end in {", ".join(extensions)}')
  return names


def _report(path, image, coded, model, lossless):
  payload = 8 * sum(len(segment.payload) for segment in coded.segments)
  psnr_db = pictures.psnr_db(image, coded.decoded, model.pixels.grey_levels - 1)
  quality = 'lossless' if lossless else (
      f'{len(coded.segments)} of {model.iterations} groups, PSNR {psnr_db:.2f} dB')
  return (
      f'{path}: {image.shape[1]}x{image.shape[0]}, {quality}; {len(coded.data):,} bytes, '
      f'{8 * len(coded.data) / image.size:.4f} bits/dim (payload {payload / image.size:.4f})')


def _format(path):
  """The image format that the extension of a file to write stands for, as Pillow calls it."""
  format_ = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
  if format_ not in Image.SAVE:
    raise UserError(f'{path} has no extension of an image format to write: end it in .png')
  return format_


def _save(path, pixels, format_):
  """Writes uint8 [H, W, C] as an image file, whole or not at all; whether it holds them exactly."""
  data = io.BytesIO()
  pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
  Image.fromarray(pixels).save(data, format_)
  write_file(path, data.getvalue())
  with Image.open(data) as image:
    return np.array_equal(np.asarray(image), pixels)


def _kind(image):
  return f'{image.shape[1]}x{image.shape[0]} {"grey" if image.shape[2] == 1 else "RGB"}'

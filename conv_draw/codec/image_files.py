"""Image files as Pillow reads and writes them, and the formats that hold decoded images."""

import io
import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from conv_draw.codec.format import reading
from conv_draw.data import folder as data_folder
from conv_draw.errors import UserError, reason

MAX_SIDE = 65_535  # pixels, of the codec's own files: the limit of formats without their own


class Format(NamedTuple):
  """A format of 8-bit grey and RGB images that Pillow writes and reads."""

  name: str  # Pillow's
  max_side: int = MAX_SIDE  # pixels, measured: larger images are not written or not read again
  channels: tuple = (1, 3)
  options: dict = {}  # for lossless files, if the format has them


_JPEG = Format('JPEG', 65_500)  # libjpeg's, not the format's
_TIFF, _JPEG2000 = Format('TIFF'), Format('JPEG2000', options=dict(irreversible=False))
# By extension. Other formats have palettes, one bit or a few sizes, or are documents.
FORMATS = {
    '.png': Format('PNG'), '.bmp': Format('BMP'), '.tif': _TIFF, '.tiff': _TIFF,
    '.ppm': Format('PPM'), '.pnm': Format('PPM'), '.pgm': Format('PPM', channels=(1,)),
    '.webp': Format('WEBP', 16_383, options=dict(lossless=True)),
    '.jp2': _JPEG2000, '.j2k': _JPEG2000, '.jpg': _JPEG, '.jpeg': _JPEG,
    '.avif': Format('AVIF', 32_768)}
# Formats that Pillow recognises and decodes with external programs or handlers alone.
_RECOGNISED_ONLY = ('BUFR', 'GRIB', 'HDF5', 'MPEG', 'WMF')


class _File(io.BytesIO):
  """A file in memory with the name of its path in messages."""

  def __init__(self, path, data):
    super().__init__(data)
    self._path = os.fspath(path)

  def __str__(self):
    return self._path

  __repr__ = __str__


def extensions():
  """The extensions that Pillow decodes, in lower case and with their dots, the usual ones first."""
  found = {
      extension for extension, name in Image.registered_extensions().items()
      if name in Image.OPEN and name not in _RECOGNISED_ONLY}
  return (*(e for e in FORMATS if e in found), *sorted(found - set(FORMATS)))


def read(path):
  """The pixels of an image file or of a pipe, and the names of what else it holds.

  Returns:
    uint8 [H, W, C], where C is 1 if it is grey; and [str] of what is not pixels, such as 'EXIF'.
  Raises:
    UserError: as of `data.folder.read`.
  """
  # At once: a pipe can be read but once, and files change.
  return data_folder.read(_File(path, reading.read_file(path, 'an image')))


def format_of(path):
  """The `Format` of an output file's extension.

  Raises:
    UserError: no format of 8-bit images of any size.
  """
  Image.init()
  format_ = FORMATS.get(os.path.splitext(path)[1].lower())
  if format_ is None:
    raise UserError(
        f'{path} has no extension of a format that holds 8-bit images: end it in .png, or in '
        f'{", ".join(e for e in FORMATS if e != ".png")}')
  if not (format_.name in Image.SAVE and format_.name in Image.OPEN):
    raise UserError(f'{path}: this Pillow has no {format_.name}: end it in .png')
  return format_


def check_holds(path, format_, width, height, channels):
  """Raises `UserError` if an image file of that format cannot hold such an image."""
  if max(width, height) > format_.max_side:
    raise UserError(
        f'{path} would be {width}x{height}, and {format_.name} holds at most '
        f'{format_.max_side:,} pixels a side: end it in .png')
  if channels not in format_.channels:
    raise UserError(f'{path} would hold grey pixels alone, the image has colours: end it in .ppm')


def to_bytes(path, pixels, format_):
  """Pixels uint8 [H, W, C] as an image file: (bytes, whether they hold the pixels exactly).

  Raises:
    UserError: Pillow cannot write such a file, or not read it again.
  """
  data = io.BytesIO()
  grey = pixels.shape[-1] == 1
  try:
    Image.fromarray(pixels[..., 0] if grey else pixels).save(
        data, format_.name, **format_.options)
    with Image.open(data, formats=(format_.name,)) as image:
      back = np.asarray(image.convert('L' if grey else 'RGB'))
  except Exception as e:  # Pillow's plugins raise almost anything
    raise UserError(
        f'{path} cannot be written as {format_.name} ({reason(e)}): end it in .png') from e
  return data.getvalue(), np.array_equal(back.reshape(pixels.shape), pixels)

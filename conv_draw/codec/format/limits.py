"""Limits of the values in headers and of names, whatever the checksums say."""

import unicodedata

from conv_draw.errors import UserError

FINGERPRINT = 8  # bytes, of a model's
MAX_SIDE = 65_535  # pixels
MAX_PIXELS = 2**26  # width * height
MAX_NAME = 255  # bytes of UTF-8, of a model or of a file in an archive


def check_flags(flags, known, source):
  """Raises `UserError` for flags that are not among the known ones."""
  if flags & ~known:
    raise UserError(
        f'{source} has flags {flags:#04x}, which this program does not know: use the program that '
        'wrote it, or get it again if it is damaged')


def check_image(header, source):
  """Raises `UserError` for what the header of no file may say, however valid its checksum."""
  width, height = header.width, header.height
  if not (1 <= min(width, height) and max(width, height) <= MAX_SIDE) or (
      width * height > MAX_PIXELS):
    raise UserError(
        f'{source} has {width} x {height} pixels; it can be 1 to {MAX_SIDE} a side and {MAX_PIXELS}'
        ' in all: scale the image down, or cut it up')
  if header.channels not in (1, 3):
    raise UserError(f'{source} has {header.channels} channels; it can be 1 (grey) or 3 (RGB)')
  if not 2 <= header.grey_levels <= 256:
    raise UserError(f'{source} has {header.grey_levels} pixel values; it can be 2 to 256')
  if not 0 <= header.seed < 2**32:
    raise UserError(f'{source} has seed {header.seed}; it can be 0 to 2**32 - 1')
  assert len(header.fingerprint) == FINGERPRINT, header.fingerprint
  check_name(header.name, source)


def check_name(name, source):
  """Raises `UserError` for a name that is too long or would upset a terminal or a one-line message.

  Unassigned characters pass: which they are depends on the version of Python.
  """
  upsetting = any(
      unicodedata.category(c) in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')
      and c not in '\u200c\u200d'  # joiners, which some scripts are not spelt right without
      for c in name)
  if upsetting or len(name.encode()) > MAX_NAME:
    raise UserError(
        f'{source} has a name {name[:40]!r}; names are printable and at most {MAX_NAME} bytes: '
        'use another')


def decode_name(name, source):
  """A name's bytes as text. Raises `UserError` if they are none."""
  try:
    return name.decode()
  except UnicodeDecodeError:
    raise UserError(
        f'{source} has a name {name[:40]!r} that is not UTF-8: use another program to write it'
    ) from None

"""An archive of many images of one size as bytes (`.cdrawa`).

FORMAT.md, beside this module, has the layout byte by byte. Nothing here knows what the payload
means or needs a model. Whatever bytes are read, the outcome is what was once written, or a
`UserError` of one line: an archive has no use for a part, as the image coded last is the first that
can be decoded, and all others need it.
"""

import os
import struct
from typing import NamedTuple

from conv_draw.codec.format import framing, limits
from conv_draw.errors import UserError

MAX_ARCHIVE_PIXELS = 2**33  # width * height * count

CHECKSUM = 8  # bytes
_JAX = 1  # flag
_HEADER = struct.Struct(f'<BIIIBHII{limits.FINGERPRINT}sH')  # the version before, the name behind
_NAME_LENGTH = struct.Struct('<H')
_LENGTH = struct.Struct('<Q')


class Header(NamedTuple):
  """What a decoder has to know of an archive of images of one size."""

  count: int  # images
  width: int  # pixels, of each
  height: int
  channels: int  # 1 or 3
  grey_levels: int  # pixels are 0..grey_levels-1
  initial_bits: int  # that bits-back coding started from, drawn from the seed
  seed: int
  fingerprint: bytes  # 8 bytes, of the model
  name: str  # of the model, for messages only
  jax: tuple[int, int, int] | None = None  # version that wrote the archive; unknown


def write(header, names, payload):
  """The bytes of an archive.

  Args:
    header: `Header`.
    names: of the images' files, in their order, without folders.
    payload: bytes.

  Raises:
    UserError: the header or the names hold what the format cannot.
  """
  _check_header(header, 'the archive')
  assert len(names) == header.count, (len(names), header.count)
  _check_file_names(names, 'the archive')
  head, table = _header_bytes(header), _table_bytes(names)
  table_checksum = framing.checksum(CHECKSUM, head[-CHECKSUM:], table)
  length = _LENGTH.pack(len(payload))
  return b''.join((
      head, table, table_checksum, length, payload,
      framing.checksum(CHECKSUM, table_checksum, length, payload)))


def read(data, source='the archive'):
  """What `write` was given: `Header`, the list of names, the payload.

  Raises:
    UserError: the data are no archive, are cut or are damaged; the message starts with `source`.
  """
  cursor = framing.start(data, framing.ARCHIVE_MAGIC, source)
  header, checksum = _read_header(cursor)
  try:
    start = cursor.offset
    # An absurd count ends with the data.
    names = [cursor.take(*cursor.unpack(_NAME_LENGTH)) for _ in range(header.count)]
    checksum = cursor.check(CHECKSUM, checksum, start, 'its file names')
    names = [limits.decode_name(name, source) for name in names]
    _check_file_names(names, source)
    start = cursor.offset
    payload = cursor.take(*cursor.unpack(_LENGTH))
    cursor.check(CHECKSUM, checksum, start, 'its images')
  except framing.Cut:
    raise UserError(
        f'{source} is cut short: get it again, an archive is of no use in part') from None
  cursor.finish()
  return header, names, payload


def size(header, names, payload):
  """How many bytes `write` makes of them."""
  return (
      len(_header_bytes(header)) + len(_table_bytes(names)) + CHECKSUM
      + _LENGTH.size + len(payload) + CHECKSUM)


def _header_bytes(header):
  name = header.name.encode()
  head = framing.ARCHIVE_MAGIC + bytes([framing.VERSION]) + _HEADER.pack(
      _JAX if header.jax else 0, header.count, header.width, header.height, header.channels,
      header.grey_levels, header.initial_bits, header.seed, header.fingerprint, len(name)) + name
  head += framing.version_bytes(header.jax or ())
  return head + framing.checksum(CHECKSUM, head)


def _read_header(cursor):
  """`Header` and its checksum."""
  try:
    flags, *fields, length = cursor.unpack(_HEADER)
    name = cursor.take(length)
    jax = cursor.version() if flags & _JAX else None
    checksum = cursor.check(CHECKSUM, b'', 0, 'its header')
  except framing.Cut:
    raise framing.cut_header(cursor.source) from None
  limits.check_flags(flags, _JAX, cursor.source)
  header = Header(*fields, limits.decode_name(name, cursor.source), jax)
  _check_header(header, cursor.source)
  return header, checksum


def _check_header(header, source):
  limits.check_image(header, source)
  pixels = header.count * header.width * header.height
  if header.count < 1 or pixels > MAX_ARCHIVE_PIXELS:
    raise UserError(
        f'{source} has {header.count} images of {header.width} x {header.height} pixels; an '
        f'archive holds 1 or more, of {MAX_ARCHIVE_PIXELS} pixels together: use several')
  if not 0 <= header.initial_bits < 2**32:
    raise UserError(f'{source} has {header.initial_bits} initial bits; it can be 0 to 2**32 - 1')


def _table_bytes(names):
  encoded = [name.encode() for name in names]
  return b''.join(_NAME_LENGTH.pack(len(name)) + name for name in encoded)


def _check_file_names(names, source):
  """Raises `UserError` for names that would leave the folder they are unpacked in, or collide."""
  for name in names:
    limits.check_name(name, source)
    # os.path also refuses what this system alone takes for a folder, such as a drive's letter.
    if name in ('', '.', '..') or '/' in name or '\\' in name or os.path.basename(name) != name:
      raise UserError(f'{source} has a file named {name!r}: names must be plain, without folders')
  seen = set()
  for name in names:
    if name in seen:
      raise UserError(f'{source} has two files named {name!r}: rename one of them')
    seen.add(name)

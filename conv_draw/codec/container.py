"""The codec's files as bytes: one image (`.cdraw`), or an archive of many (`.cdrawa`).

FORMAT.md, beside this module, has the layout byte by byte. Nothing here knows what a payload means
or needs a model. Whatever bytes are read, the outcome is what was once written, a prefix of it (if
the file was cut between two segments, or `partial` was asked for), or a `UserError` of one line.
The checksums find accidents; they have no key and so do not prove who wrote a file.
"""

import contextlib
import hashlib
import itertools
import os
import secrets
import struct
import unicodedata
from typing import NamedTuple

from conv_draw.errors import UserError

# The first byte is not ASCII and the last two are a line end, so that whatever treats the file as
# text (7 bits, line ends, UTF-8) spoils the magic first.
MAGIC = b'\x93CDRAW\r\n'
ARCHIVE_MAGIC = b'\x93CDARC\r\n'
VERSION = 1

LOSSY, LOSSLESS = 0, 1  # modes
LATENTS, PIXELS = 1, 2  # kinds of segments
PIXELS_INDEX = 0xFFFF

MAX_SIDE = 65_535  # pixels
MAX_PIXELS = 2**26  # width * height
MAX_ARCHIVE_PIXELS = 2**33  # width * height * count
MAX_GROUPS = PIXELS_INDEX - 1
MAX_NAME = 255  # bytes of UTF-8, of a model or of a file in an archive
MAX_FILE = 2**31  # bytes

CHECKSUM = 8  # bytes
# Both headers: the version first, the length of the model's name last.
_HEADER = struct.Struct('<BBIIBHBHII16sH')
_ARCHIVE_HEADER = struct.Struct('<BBIIIBHII16sH')
_ORDER = struct.Struct('<BH')  # a segment's kind and index
_LENGTH = struct.Struct('<I')
_NAME_LENGTH = struct.Struct('<H')
_ARCHIVE_LENGTH = struct.Struct('<Q')


class Header(NamedTuple):
  """What a decoder has to know of an image before its first segment."""

  mode: int  # LOSSY or LOSSLESS
  width: int  # pixels
  height: int  # pixels
  channels: int  # 1 or 3
  levels: int  # pixels are 0..levels-1
  groups: int  # of latents in the complete file, T of the model
  tile: int  # side in pixels of the tiles coded one by one; 0: the image is coded whole
  seed: int  # of the dither that encoder and decoder share
  fingerprint: bytes  # 16 bytes, of the model
  name: str  # of the model, for messages only


class Segment(NamedTuple):
  """A part of the file that can be decoded once those before it are."""

  kind: int  # LATENTS or PIXELS
  index: int  # LATENTS: t = 1..T; PIXELS: PIXELS_INDEX
  payload: bytes


class ArchiveHeader(NamedTuple):
  """What a decoder has to know of an archive of images of one size."""

  count: int  # images
  width: int  # pixels, of each
  height: int
  channels: int  # 1 or 3
  levels: int  # pixels are 0..levels-1
  initial_bits: int  # that bits-back coding started from, drawn from the seed
  seed: int
  fingerprint: bytes  # 16 bytes, of the model
  name: str  # of the model, for messages only


# One image ----------------------------------------------------------------------------------------


def write(header, segments):
  """The bytes of an image's file.

  Args:
    header: `Header`.
    segments: `Segment`s, all that the header calls for or the first few of them.

  Raises:
    UserError: the header holds what the format cannot.
  """
  _check_header(header, 'the image')
  order = [(segment.kind, segment.index) for segment in segments]
  assert order == list(itertools.islice(_sequence(header), len(order))), order
  head = _header_bytes(header)
  parts, checksum = [head], head[-CHECKSUM:]
  for kind, index, payload in segments:
    body = _ORDER.pack(kind, index) + _LENGTH.pack(len(payload)) + payload
    checksum = _checksum(checksum, body)
    parts += [body, checksum]
  return b''.join(parts)


def read(data, partial=False, source='the file'):
  """What `write` was given, or as much of it as a cut has left.

  Args:
    data: bytes.
    partial: of a file that ends inside a segment, return the segments before that one.
    source: what messages call the data, such as its path.

  Returns:
    `Header` and the list of `Segment`s, fewer than the header calls for if the file was cut.

  Raises:
    UserError: the data are no such file, are damaged, or end inside the header or, without
      `partial`, inside a segment.
  """
  header, offset = _read_header(data, source)
  checksum = data[offset - CHECKSUM : offset]
  segments = []
  for kind, index in _sequence(header):
    if offset == len(data):
      return header, segments
    end = _segment_end(data, offset, kind, index, source)
    if end is None or end > len(data):
      if partial:
        return header, segments
      raise UserError(
          f'{source} ends inside {_label(kind, index)}: get it again, or use --partial to decode '
          f'what is complete ({len(segments)} of {_count(header)} segments)')
    checksum = _checksum(checksum, memoryview(data)[offset : end - CHECKSUM])
    if data[end - CHECKSUM : end] != checksum:
      raise _damaged(source, f'the checksum of {_label(kind, index)} does not match')
    payload = data[offset + _ORDER.size + _LENGTH.size : end - CHECKSUM]
    segments.append(Segment(kind, index, payload))
    offset = end
  _check_end(data, offset, source)
  return header, segments


def describe(header, segments):
  """What a file holds and what each part costs, for people; several lines."""
  held = sum(segment.kind == LATENTS for segment in segments)
  state = 'complete' if len(segments) == _count(header) else 'the rest was cut off or never written'
  pixels = ', and the pixels' if len(segments) > held else ''
  tiles = f'tiles of {header.tile} x {header.tile} pixels' if header.tile else 'coded whole'
  lines = [
      f'mode         {"lossless" if header.mode == LOSSLESS else "lossy"}',
      f'image        {_size(header)}, {tiles}',
      *_model_lines(header),
      f'groups       {held} of {header.groups}{pixels} ({state})', '',
      f'{"segment":14}{"payload bytes":>14}{"file so far":>14}{"bits/dim":>10}']
  dims = header.width * header.height * header.channels
  total = len(_header_bytes(header))
  lines.append(f'{"header":14}{"":14}{total:14,}{8 * total / dims:10.4f}')
  for kind, index, payload in segments:
    total += _ORDER.size + _LENGTH.size + len(payload) + CHECKSUM
    lines.append(
        f'{_label(kind, index):14}{len(payload):14,}{total:14,}{8 * total / dims:10.4f}')
  payloads = sum(len(segment.payload) for segment in segments)
  return '\n'.join([*lines, '', _total_line(total, payloads, dims)])


def _sequence(header):
  """The kind and index of every segment of the complete file, in order."""
  yield from ((LATENTS, t) for t in range(1, header.groups + 1))
  if header.mode == LOSSLESS:
    yield PIXELS, PIXELS_INDEX


def _count(header):
  return header.groups + (header.mode == LOSSLESS)


def _label(kind, index):
  return f'latents {index}' if kind == LATENTS else 'pixels'


def _segment_end(data, offset, kind, index, source):
  """The offset behind a segment, perhaps behind the data; None if its length is not all there.

  Raises:
    UserError: another segment than the expected one starts here; even an incomplete one shows it.
  """
  expected = _ORDER.pack(kind, index)
  if not expected.startswith(data[offset : offset + _ORDER.size]):
    raise _damaged(source, f'{_label(kind, index)} should start at byte {offset} and does not')
  start = offset + _ORDER.size + _LENGTH.size
  if start > len(data):
    return None
  return start + _LENGTH.unpack_from(data, offset + _ORDER.size)[0] + CHECKSUM


def _header_bytes(header):
  name = header.name.encode()
  fixed = _HEADER.pack(
      VERSION, header.mode, header.width, header.height, header.channels, header.levels, 0,
      header.groups, header.tile, header.seed, header.fingerprint, len(name))
  return _with_checksum(MAGIC + fixed + name)


def _read_header(data, source):
  """`Header` and the offset behind it."""
  fields, offset = _read_head(data, MAGIC, _HEADER, source)
  mode, width, height, channels, levels, flags, groups, tile, seed, fingerprint, name = fields
  header = Header(
      mode, width, height, channels, levels, groups, tile, seed, fingerprint, name)
  _check_flags(flags, source)
  _check_header(header, source)
  return header, offset


def _check_header(header, source):
  """Raises `UserError` for what no file may say, however valid its checksum."""
  if header.mode not in (LOSSY, LOSSLESS):
    raise UserError(f'{source} has mode {header.mode}; it can be 0 (lossy) or 1 (lossless)')
  _check_image(header, source)
  if not 1 <= header.groups <= MAX_GROUPS:
    raise UserError(
        f'{source} has {header.groups} groups of latents; a model for the codec needs 1 to '
        f'{MAX_GROUPS}')
  if not 0 <= header.tile <= MAX_SIDE:
    raise UserError(
        f'{source} has tiles of {header.tile} pixels; a tile has at most {MAX_SIDE}, or 0 for '
        'an image that is coded whole')


# Archives -----------------------------------------------------------------------------------------


def write_archive(header, names, payload):
  """The bytes of an archive.

  Args:
    header: `ArchiveHeader`.
    names: of the images' files, in their order, without folders.
    payload: bytes.

  Raises:
    UserError: the header or the names hold what the format cannot.
  """
  _check_archive_header(header, 'the archive')
  assert len(names) == header.count, (len(names), header.count)
  _check_file_names(names, 'the archive')
  head = _archive_header_bytes(header)
  table = _table_bytes(names)
  table_checksum = _checksum(head[-CHECKSUM:], table)
  length = _ARCHIVE_LENGTH.pack(len(payload))
  return b''.join((
      head, table, table_checksum, length, payload,
      _checksum(table_checksum, length, payload)))


def read_archive(data, source='the archive'):
  """What `write_archive` was given: `ArchiveHeader`, the list of names, the payload.

  An archive has no use for a part: the image coded last is the first that can be decoded, and all
  others need it.

  Raises:
    UserError: the data are no archive, are cut or are damaged; the message starts with `source`.
  """
  header, offset = _read_archive_header(data, source)
  names, end = _read_table(data, offset, header.count, source)
  table = memoryview(data)[offset:end]
  checksum = _checksum(data[offset - CHECKSUM : offset], table)
  if data[end : end + CHECKSUM] != checksum:
    raise _damaged(source, 'the checksum of its file names does not match')
  names = [_decode(name, source) for name in names]
  _check_file_names(names, source)

  offset = end + CHECKSUM
  start = offset + _ARCHIVE_LENGTH.size
  if start > len(data):
    raise _cut_archive(source)
  end = start + _ARCHIVE_LENGTH.unpack_from(data, offset)[0]
  if end + CHECKSUM > len(data):
    raise _cut_archive(source)
  if data[end : end + CHECKSUM] != _checksum(checksum, memoryview(data)[offset:end]):
    raise _damaged(source, 'the checksum of its images does not match')
  _check_end(data, end + CHECKSUM, source)
  return header, names, data[start:end]


def describe_archive(header, names, payload, max_names=10):
  """What an archive holds and costs, for people; several lines, at most `max_names` of names."""
  total = (
      len(_archive_header_bytes(header)) + len(_table_bytes(names)) + CHECKSUM
      + _ARCHIVE_LENGTH.size + len(payload) + CHECKSUM)
  dims = header.count * header.width * header.height * header.channels
  more = len(names) - max_names
  return '\n'.join([
      'mode         lossless, bits back',
      f'images       {header.count:,} of {_size(header)}',
      *_model_lines(header),
      f'initial bits {header.initial_bits:,}', '',
      *(f'  {name}' for name in names[:max_names]),
      *([f'  ... and {more:,} more'] if more > 0 else []), '',
      _total_line(total, len(payload), dims)])


def _archive_header_bytes(header):
  name = header.name.encode()
  fixed = _ARCHIVE_HEADER.pack(
      VERSION, 0, header.count, header.width, header.height, header.channels, header.levels,
      header.initial_bits, header.seed, header.fingerprint, len(name))
  return _with_checksum(ARCHIVE_MAGIC + fixed + name)


def _read_archive_header(data, source):
  """`ArchiveHeader` and the offset behind it."""
  (flags, *fields), offset = _read_head(data, ARCHIVE_MAGIC, _ARCHIVE_HEADER, source)
  header = ArchiveHeader(*fields)
  _check_flags(flags, source)
  _check_archive_header(header, source)
  return header, offset


def _check_archive_header(header, source):
  _check_image(header, source)
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


def _read_table(data, offset, count, source):
  """The file names, not yet decoded, and the offset behind them."""
  names = []
  for _ in range(count):  # an absurd count ends with the data
    start = offset + _NAME_LENGTH.size
    if start > len(data):
      raise _cut_archive(source)
    offset = start + _NAME_LENGTH.unpack_from(data, start - _NAME_LENGTH.size)[0]
    if offset > len(data):
      raise _cut_archive(source)
    names.append(data[start:offset])
  return names, offset


def _check_file_names(names, source):
  """Raises `UserError` for names that would leave the folder they are unpacked in, or collide."""
  for name in names:
    _check_name(name, source)
    # os.path also refuses what this system alone takes for a folder, such as a drive's letter.
    if name in ('', '.', '..') or '/' in name or '\\' in name or os.path.basename(name) != name:
      raise UserError(f'{source} has a file named {name!r}: names must be plain, without folders')
  seen = set()
  for name in names:
    if name in seen:
      raise UserError(f'{source} has two files named {name!r}: rename one of them')
    seen.add(name)


def _cut_archive(source):
  return UserError(f'{source} is cut short: get it again, an archive is of no use in part')


# Both ---------------------------------------------------------------------------------------------


def _read_head(data, magic, layout, source):
  """A header's fields behind the version, the name decoded, and the offset behind its checksum."""
  _check_magic(data, magic, source)
  fixed = len(magic) + layout.size
  if len(data) > len(magic) and data[len(magic)] != VERSION:
    raise UserError(
        f'{source} has format version {data[len(magic)]}, this program reads {VERSION}: use the '
        'program that wrote it, or get it again if it is damaged')
  if len(data) < fixed:
    raise _damaged(source, 'it ends inside its header')
  _, *fields, length = layout.unpack_from(data, len(magic))
  end = fixed + length
  if len(data) < end + CHECKSUM:
    raise _damaged(source, 'it ends inside its header')
  if data[end : end + CHECKSUM] != _checksum(data[:end]):
    raise _damaged(source, "the header's checksum does not match")
  return [*fields, _decode(data[fixed:end], source)], end + CHECKSUM


def _check_magic(data, magic, source):
  start = data[: len(magic)]
  if start == magic:
    return
  if magic.startswith(start):
    raise _damaged(source, 'it ends inside its header' if data else 'it is empty')
  if start == ARCHIVE_MAGIC:
    raise UserError(f'{source} is an archive of images (.cdrawa): a single one (.cdraw) is needed')
  if start == MAGIC:
    raise UserError(f'{source} is a single image (.cdraw): an archive (.cdrawa) is needed')
  if magic[1:6] in start:
    raise _damaged(source, 'its first bytes are wrong, as after a transfer as text, not binary')
  raise UserError(
      f'{source} is not a file of this codec (it does not start like one): name one that is')


def _check_flags(flags, source):
  if flags:
    raise UserError(
        f'{source} has flags {flags:#04x}, which this program does not know: use the program that '
        'wrote it')


def _check_image(header, source):
  """Raises `UserError` for what neither kind of header may say."""
  width, height = header.width, header.height
  if not (1 <= min(width, height) and max(width, height) <= MAX_SIDE) or (
      width * height > MAX_PIXELS):
    raise UserError(
        f'{source} has {width} x {height} pixels; it can be 1 to {MAX_SIDE} a side and {MAX_PIXELS}'
        ' in all: scale the image down, or cut it up')
  if header.channels not in (1, 3):
    raise UserError(f'{source} has {header.channels} channels; it can be 1 (grey) or 3 (RGB)')
  if not 2 <= header.levels <= 256:
    raise UserError(f'{source} has {header.levels} pixel values; it can be 2 to 256')
  if not 0 <= header.seed < 2**32:
    raise UserError(f'{source} has seed {header.seed}; it can be 0 to 2**32 - 1')
  assert len(header.fingerprint) == 16, header.fingerprint
  _check_name(header.name, source)


def _check_name(name, source):
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


def _check_end(data, offset, source):
  if offset < len(data):
    raise _damaged(source, f'{len(data) - offset} bytes follow its end at byte {offset}')


def _decode(name, source):
  try:
    return name.decode()
  except UnicodeDecodeError:
    raise UserError(
        f'{source} has a name {name[:40]!r} that is not UTF-8: use another program to write it'
    ) from None


def _checksum(*parts):
  state = hashlib.blake2b(digest_size=CHECKSUM)
  for part in parts:
    state.update(part)
  return state.digest()


def _with_checksum(data):
  return data + _checksum(data)


def _damaged(source, what):
  return UserError(f'{source} is damaged ({what}): get it again')


def _size(header):
  channels = 'channel' if header.channels == 1 else 'channels'
  return (
      f'{header.width} x {header.height} pixels, {header.channels} {channels}, '
      f'{header.levels} levels')


def _model_lines(header):
  return [
      f'model        {header.name}',
      f'fingerprint  {header.fingerprint.hex()}',
      f'seed         {header.seed}']


def _total_line(total, payloads, dims):
  return (
      f'total        {total:,} bytes, {8 * total / dims:.4f} bits/dim; without the container '
      f'{payloads:,} bytes, {8 * payloads / dims:.4f} bits/dim')


# Files --------------------------------------------------------------------------------------------


def describe_file(path, partial=False):
  """`describe` or `describe_archive` of the file there, whichever it is."""
  data = read_file(path)
  if data.startswith(ARCHIVE_MAGIC):
    return describe_archive(*read_archive(data, source=path))
  return describe(*read(data, partial, source=path))


def write_file(path, data):
  """Writes a file whole or not at all.

  Raises:
    UserError: it cannot be written; what was there before is still there.
  """
  if len(data) > MAX_FILE:
    raise UserError(
        f'{path} would have {len(data)} bytes, more than the {MAX_FILE} that are read: use '
        'several files')
  target = os.path.realpath(path)  # a link stays one
  if os.path.exists(target) and not os.path.isfile(target):
    raise UserError(f'{path} is not a regular file: name another')  # /dev/null would be replaced
  # Not tempfile: its files are the owner's alone, and stay so.
  temporary = os.path.join(os.path.dirname(target), f'.cdraw-{secrets.token_hex(8)}.tmp')
  try:
    try:
      with open(temporary, 'xb') as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
      os.replace(temporary, target)
    except BaseException:  # of any kind: an interrupt leaves nothing behind either
      with contextlib.suppress(OSError):
        os.remove(temporary)
      raise
  except OSError as e:
    raise UserError(
        f'{path} cannot be written ({e.strerror or e}): name a place that can be written to and '
        'has room') from None


def read_file(path):
  """The bytes of a file.

  Raises:
    UserError: there is none, it is not readable, or it has more than `MAX_FILE` bytes.
  """
  parts, size = [], 0
  try:
    with open(path, 'rb') as f:
      if os.fstat(f.fileno()).st_size > MAX_FILE:
        raise _too_long(path)
      while part := f.read(2**20):  # in parts: a pipe does not say how much is to come
        parts.append(part)
        size += len(part)
        if size > MAX_FILE:
          raise _too_long(path)
  except FileNotFoundError:
    raise UserError(f'{path} does not exist: name a file of the codec') from None
  except OSError as e:
    raise UserError(
        f'{path} cannot be read ({e.strerror or e}): name a file that can be') from None
  return b''.join(parts)


def _too_long(path):
  return UserError(
      f'{path} has more than {MAX_FILE} bytes, which no file of this codec does: name another')

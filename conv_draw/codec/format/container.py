"""One image as bytes (`.cdraw`): a header, then segments, behind any of which it can be cut.

FORMAT.md, beside this module, has the layout byte by byte. Nothing here knows what a payload means
or needs a model. Whatever bytes are read, the outcome is what was once written, a prefix of it (if
the file was cut between two segments, or `partial` was asked for), or a `UserError` of one line.
"""

import itertools
from typing import NamedTuple

from conv_draw.codec.format import framing, limits
from conv_draw.errors import UserError

LOSSY, LOSSLESS = 0, 1  # modes
LATENTS, PIXELS = 1, 2  # kinds of segments
EACH, DOUBLING, ALL = 0, 1, 2  # groups in a segment: one; 1, 2, 3-4, 5-8, ...; all
PIXELS_INDEX = 0xFFFF

MAX_GROUPS = PIXELS_INDEX - 1

CHECKSUM = 4  # bytes
# Flags of a header.
_LOSSLESS, _COLOUR, _LEVELS, _TILE, _SEED, _GROUPING = (1 << i for i in range(6))
_JAX = 4 * _GROUPING  # the grouping has two bits
_KNOWN = 2 * _JAX - 1
_USUAL_LEVELS = 256  # not stored


class Header(NamedTuple):
  """What a decoder has to know of an image before its first segment."""

  mode: int  # LOSSY or LOSSLESS
  width: int  # pixels
  height: int  # pixels
  channels: int  # 1 or 3
  grey_levels: int  # pixels are 0..grey_levels-1
  groups: int  # of latents in the complete file, T of the model
  tile_side: int  # pixels, of the tiles coded one by one; 0: the image is coded whole
  grouping: int  # of groups into segments: EACH, DOUBLING or ALL
  seed: int  # of the dither that encoder and decoder share
  fingerprint: bytes  # 8 bytes, of the model
  name: str  # of the model, for messages only
  jax: tuple[int, int, int] | None = None  # version that wrote the file, for messages; unknown


class Segment(NamedTuple):
  """A part of the file that can be decoded once those before it are."""

  kind: int  # LATENTS or PIXELS
  index: int  # LATENTS: the last of the groups t = 1..T in it; PIXELS: PIXELS_INDEX
  payload: bytes


def ends(header):
  """The last group of each segment of latents, in order: [1, 2, 3, ..., T], [1, 2, 4, ..., T], [T].

  Segment i thus holds the groups ends[i - 1] + 1 to ends[i], the first one group 1.
  """
  return list(_ends(header))


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
  due = [(kind, index) for kind, index, _ in itertools.islice(_plan(header), len(order))]
  assert order == due, (order, due)
  head = _header_bytes(header)
  parts, checksum = [head], head[-CHECKSUM:]
  for segment in segments:
    length = framing.varint(len(segment.payload))
    checksum = framing.checksum(CHECKSUM, checksum, length, segment.payload)
    parts += [length, segment.payload, checksum]
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
  cursor = framing.start(data, framing.IMAGE_MAGIC, source)
  header, checksum = _read_header(cursor)
  segments = []
  for kind, index, label in _plan(header):
    start = cursor.offset
    if start == len(data):
      return header, segments
    try:
      payload = cursor.take(cursor.varint())
      checksum = cursor.check(CHECKSUM, checksum, start, label)
    except framing.Cut:
      if partial:
        return header, segments
      raise UserError(
          f'{source} ends inside {label}: get it again, or use --partial to decode what is '
          f'complete ({len(segments)} of {count(header)} segments)') from None
    segments.append(Segment(kind, index, payload))
  cursor.finish()
  return header, segments


def sizes(header, segments):
  """[(what, bytes of its payload, bytes of the file up to its end)], of the header and segments."""
  total = len(_header_bytes(header))
  found = [('header', 0, total)]
  for (_, _, label), segment in zip(_plan(header), segments, strict=False):
    size = len(segment.payload)
    total += len(framing.varint(size)) + size + CHECKSUM
    found.append((label, size, total))
  return found


def count(header):
  """How many segments the complete file has."""
  return len(_ends(header)) + (header.mode == LOSSLESS)


def _ends(header):
  groups = header.groups
  if not groups:
    return []
  if header.grouping == EACH:
    return range(1, groups + 1)
  if header.grouping == ALL:
    return [groups]
  return [*(2**k for k in range((groups - 1).bit_length())), groups]


def _plan(header):
  """(kind, index, what messages say) of every segment of the complete file, one by one in order."""
  first = 1
  for last in _ends(header):
    yield LATENTS, last, f'latents {first}' if first == last else f'latents {first}-{last}'
    first = last + 1
  if header.mode == LOSSLESS:
    yield PIXELS, PIXELS_INDEX, 'pixels'


def _header_bytes(header):
  """The one form of a header. It must have been checked."""
  name = header.name.encode()
  flags, optional = _GROUPING * header.grouping, []
  for flag, there, field in (
      (_LOSSLESS, header.mode == LOSSLESS, b''),
      (_COLOUR, header.channels == 3, b''),
      (_LEVELS, header.grey_levels != _USUAL_LEVELS, bytes([header.grey_levels - 1])),
      (_TILE, header.tile_side, framing.varint(header.tile_side)),
      (_SEED, header.seed, framing.varint(header.seed)),
      (_JAX, header.jax, framing.version_bytes(header.jax or ()))):
    if there:
      flags |= flag
      optional.append(field)
  head = b''.join((
      framing.IMAGE_MAGIC, bytes([framing.VERSION, flags]), framing.varint(header.width),
      framing.varint(header.height), framing.varint(header.groups), *optional, header.fingerprint,
      bytes([len(name)]), name))
  return head + framing.checksum(CHECKSUM, head)


def _read_header(cursor):
  """`Header` and its checksum."""
  source = cursor.source
  try:
    flags = cursor.take(1)[0]
    limits.check_flags(flags, _KNOWN, source)
    width, height, groups = cursor.varint(), cursor.varint(), cursor.varint()
    grey_levels = cursor.take(1)[0] + 1 if flags & _LEVELS else _USUAL_LEVELS
    tile_side = cursor.varint() if flags & _TILE else 0
    seed = cursor.varint() if flags & _SEED else 0
    jax = cursor.version() if flags & _JAX else None
    fingerprint = cursor.take(limits.FINGERPRINT)
    name = cursor.take(cursor.take(1)[0])
    checksum = cursor.check(CHECKSUM, b'', 0, 'its header')
  except framing.Cut:
    raise framing.cut_header(source) from None
  header = Header(
      LOSSLESS if flags & _LOSSLESS else LOSSY, width, height, 3 if flags & _COLOUR else 1,
      grey_levels, groups, tile_side, flags // _GROUPING & 3, seed, fingerprint,
      limits.decode_name(name, source), jax)
  _check_header(header, source)
  if cursor.data[: cursor.offset] != _header_bytes(header):
    raise UserError(
        f'{source} has a header that is not in its shortest form: use another program to write it')
  return header, checksum


def _check_header(header, source):
  """Raises `UserError` for what no file may say, however valid its checksum."""
  if header.mode not in (LOSSY, LOSSLESS):
    raise UserError(f'{source} has mode {header.mode}; it can be 0 (lossy) or 1 (lossless)')
  if header.grouping not in (EACH, DOUBLING, ALL):
    raise UserError(f'{source} groups its latents in way {header.grouping}; it can be 0, 1 or 2')
  limits.check_image(header, source)
  least = 0 if header.mode == LOSSLESS else 1
  if not least <= header.groups <= MAX_GROUPS:
    raise UserError(
        f'{source} has {header.groups} groups of latents; a model for the codec needs {least} to '
        f'{MAX_GROUPS}')
  if not header.groups and header.grouping != EACH:
    raise UserError(
        f'{source} groups no latents in way {header.grouping}; without latents, it is 0')
  if not 0 <= header.tile_side <= limits.MAX_SIDE:
    raise UserError(
        f'{source} has tiles of {header.tile_side} pixels; a tile has at most '
        f'{limits.MAX_SIDE}, or 0 for an image that is coded whole')

"""How the codec's two kinds of files are made up: magic, numbers and checksums.

Nothing here knows what follows what in a file: `container` (one image) and `archive` (many)
do. FORMAT.md, beside this module, has both byte by byte. The checksums find accidents; they have no
key and so do not prove who wrote a file.
"""

import hashlib

from conv_draw.errors import UserError

# The first byte is neither ASCII nor valid UTF-8 and the last one is a line feed, so that most of
# what treats a file as text spoils the magic first.
IMAGE_MAGIC = b'\x93CD\n'
ARCHIVE_MAGIC = b'\x93CA\n'
VERSION = 1

_VARINT = 5  # bytes of the longest one
# What becomes of the first byte and of the line end: with 7 bits, from Latin-1 or Windows-1252 to
# UTF-8, where bytes that are not text are replaced; on systems that end lines otherwise.
_SPOILT_FIRST = (b'\x93', b'\x13', b'\xc2\x93', b'\xe2\x80\x9c', b'\xef\xbf\xbd', b'?')
_LINE_ENDS = (b'\n', b'\r\n', b'\r')


class Cut(Exception):
  """The data end where more of them is needed."""


class Cursor:
  """Takes one part of a file's bytes after the other.

  Numbers in the file move it, but allocate nothing: what is taken are slices of what is there.
  Every method but `finish` raises `Cut` if the data end first.

  Attributes:
    data: bytes, of the whole file.
    source: what messages call them.
    offset: of the part that is next, in bytes.
  """

  def __init__(self, data, source):
    self.data, self.source, self.offset = data, source, 0

  def take(self, size):
    """The next `size` bytes."""
    end = self.offset + size
    if end > len(self.data):
      raise Cut
    part = self.data[self.offset : end]
    self.offset = end
    return part

  def unpack(self, layout):
    """The fields of a `struct.Struct`."""
    return layout.unpack(self.take(layout.size))

  def varint(self):
    """A number of `varint`. Raises `UserError` for all but its shortest form."""
    start, number = self.offset, 0
    for i in range(_VARINT):
      byte = self.take(1)[0]
      number |= (byte & 127) << 7 * i
      if byte < 128:
        if i and not byte:
          break
        return number
    raise damaged(self.source, f'the number at byte {start} is not in its shortest form')

  def version(self):
    """(major, minor, patch) of `version_bytes`."""
    return self.varint(), self.varint(), self.varint()

  def check(self, size, before, start, what):
    """Takes a checksum of `size` bytes, of the one before it and the data from `start`.

    Returns:
      The checksum.

    Raises:
      UserError: it does not match; `what` is whose it is.
    """
    end = self.offset
    stored = self.take(size)
    if stored != checksum(size, before, memoryview(self.data)[start:end]):
      raise damaged(self.source, f'the checksum of {what} does not match')
    return stored

  def finish(self):
    """Raises `UserError` if anything follows."""
    if self.offset < len(self.data):
      raise damaged(
          self.source,
          f'{len(self.data) - self.offset} bytes follow its end at byte {self.offset}')


def start(data, magic, source):
  """A `Cursor` behind a file's magic and version.

  Raises:
    UserError: the data do not start so.
  """
  _check_magic(data, magic, source)
  cursor = Cursor(data, source)
  cursor.take(len(magic))
  try:
    version = cursor.take(1)[0]
  except Cut:
    raise cut_header(source) from None
  if version != VERSION:
    raise UserError(
        f'{source} has format version {version}, this program reads {VERSION}: use the program '
        'that wrote it, or get it again if it is damaged')
  return cursor


def _check_magic(data, magic, source):
  first = data[: len(magic)]
  if first == magic:
    return
  if magic.startswith(first):
    raise cut_header(source) if data else damaged(source, 'it is empty')
  if first == ARCHIVE_MAGIC:
    raise UserError(f'{source} is an archive of images (.cdrawa): a single one (.cdraw) is needed')
  if first == IMAGE_MAGIC:
    raise UserError(f'{source} is a single image (.cdraw): an archive (.cdrawa) is needed')
  if any(
      data.startswith(spoilt + name[1:3] + end)
      for name in (IMAGE_MAGIC, ARCHIVE_MAGIC) for spoilt in _SPOILT_FIRST for end in _LINE_ENDS):
    raise damaged(source, 'its first bytes are wrong, as after a transfer as text, not binary')
  raise UserError(
      f'{source} is not a file of this codec (it does not start like one): name one that is')


def varint(number):
  """Unsigned LEB128: 7 bits a byte, the lowest first; in all but the last byte the top bit is 1."""
  assert 0 <= number < 1 << 7 * _VARINT, number
  parts = bytearray()
  while number > 127:
    parts.append(number & 127 | 128)
    number >>= 7
  return bytes([*parts, number])


def version_bytes(version):
  """Of (major, minor, patch)."""
  return b''.join(varint(number) for number in version)


def checksum(size, *parts):
  """`size` bytes of BLAKE2b of the parts one after the other."""
  state = hashlib.blake2b(digest_size=size)
  for part in parts:
    state.update(part)
  return state.digest()


def damaged(source, what):
  """A `UserError` of one line."""
  return UserError(f'{source} is damaged ({what}): get it again')


def cut_header(source):
  return damaged(source, 'it ends inside its header')

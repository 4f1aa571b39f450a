"""PNG files without the metadata for which Pillow would refuse them.

Pillow reads all metadata of a PNG file, and refuses the file if it cannot: for a text of 2 MB, or a
wrong checksum of one. So it is given the pixels, and of the metadata only what says how the image
is turned, as far as Pillow reads that.

`f` is everywhere a PNG file, open for reading in binary, which can be searched.
"""

import io
import struct
import zlib

MAGIC = b'\x89PNG\r\n\x1a\n'
PALETTE = b'\3'  # the colour type of pixels that are places in a palette
KEYWORD = 80  # bytes: of a text's keyword and the zero behind it, at most
SEEN = (b'tRNS', b'acTL')  # optional chunks that change what is seen: colours, frames
TEXTS = (b'tEXt', b'zTXt', b'iTXt')
# Names for users, by kind of chunk and keyword of text. TURNING may say how an image is turned.
NAMES = {b'iCCP': 'ICC profile', b'gAMA': 'gamma', b'cHRM': 'primaries', b'cICP': 'colour space'}
TURNING = {b'eXIf': 'EXIF', b'Raw profile type exif': 'EXIF', b'XML:com.adobe.xmp': 'XMP'}


def is_one(f):
  """Whether a file begins as PNG files do."""
  f.seek(0)
  return f.read(len(MAGIC)) == MAGIC


def essence(f, with_pixels):
  """What Pillow is to read of a file, in `io.BytesIO`.

  Args:
    with_pixels: whether pixels are wanted; without, the result describes them only.
  Raises:
    ValueError: it ends before its pixels begin.
  """
  before, turning, pixels, kinds = [], {}, [], set()
  for kind, name, size in _chunks(f):
    kinds.add(kind)
    if kind == b'IEND':
      break
    if kind == b'IDAT':
      pixels.append(f.read(size) if with_pixels else _chunk(b'IDAT'))
    elif name in TURNING:  # also from behind the pixels: so these need not be decoded first
      chunk = f.read(size)
      if _is_read(before[:1], chunk):
        turning[name] = chunk  # the last of a name, as Pillow: of all, it counts the bytes
    elif kind[:1].isupper() or not pixels and (
        kind in SEEN or kind == b'fcTL' and b'acTL' in kinds):
      before.append(f.read(size))
  if not pixels:
    raise ValueError('it ends before its pixels')
  before = b''.join(before)
  if before[17:18] == PALETTE and b'PLTE' not in kinds:  # of IHDR, which comes first
    raise ValueError('its pixels are places in a palette, and it has none')
  return io.BytesIO(b''.join((
      MAGIC, before, *turning.values(), *pixels[: None if with_pixels else 1], _chunk(b'IEND'))))


def others(f):
  """Names of what a file holds besides pixels, in the order of the file."""
  found = []
  for kind, name, _ in _chunks(f):
    if kind in TEXTS:
      found.append(TURNING.get(name, 'text'))
    elif kind in NAMES or kind in TURNING:
      found.append(NAMES.get(kind) or TURNING[kind])
  return found


def _chunks(f):
  """Yields (kind, its keyword if it is a text, else its kind, bytes in all) of a file's chunks.

  At each, the file is where it begins.
  """
  at = f.seek(len(MAGIC))
  while len(head := f.read(8)) == 8:
    length, kind = struct.unpack('>I4s', head)
    name = f.read(min(length, KEYWORD)).partition(b'\0')[0] if kind in TEXTS else kind
    f.seek(at)
    yield kind, name, length + 12
    at = f.seek(at + length + 12)


def _chunk(kind):
  """An empty one."""
  return struct.pack('>I4sI', 0, kind, zlib.crc32(kind))


def _is_read(header, chunk):
  """Whether Pillow reads a file of this header (IHDR) with this chunk of metadata."""
  from PIL import Image
  try:
    with Image.open(io.BytesIO(b''.join((MAGIC, *header, chunk, _chunk(b'IDAT'))))) as image:
      Image.Image.getexif(image)  # PNG's own would decode the pixels
  except Exception:  # Pillow raises almost anything
    return False
  return True

"""PNG files without the metadata for which Pillow would refuse them.

Pillow reads all metadata of a PNG file, and refuses the file if it cannot: for a text of 2 MB, or a
text with a wrong checksum. `stripped` keeps the chunks that describe the pixels, and of the
metadata only the orientation, if Pillow can read it.
"""

import contextlib
import io
import struct
import zlib

MAGIC = b'\x89PNG\r\n\x1a\n'
KEYWORD_SIZE = 80  # bytes of a text's keyword and its zero byte, at most
TEXTS = (b'tEXt', b'zTXt', b'iTXt')
# Names by kind of chunk. Those of ORIENTATION, by kind or a text's keyword, may hold it.
NAMES = {b'iCCP': 'ICC profile', b'gAMA': 'gamma', b'cHRM': 'primaries', b'cICP': 'colour space'}
ORIENTATION = {b'eXIf': 'EXIF', b'Raw profile type exif': 'EXIF', b'XML:com.adobe.xmp': 'XMP'}


def stripped(f, with_pixels):
  """The file without the metadata that Pillow need not read; and names of all metadata.

  Args:
    f: the file, open for reading in binary.
    with_pixels: whether to keep the pixels.
  Returns:
    (`io.BytesIO`, [str]).
  Raises:
    ValueError: the file ends before its pixels.
  """
  kept, orientation, pixels, kinds, names = [], {}, [], set(), []
  for kind, keyword, size in _chunks(f):
    kinds.add(kind)
    if name := ORIENTATION.get(keyword) or ('text' if kind in TEXTS else NAMES.get(kind)):
      names.append(name)
    if kind == b'IEND':
      break
    if kind == b'IDAT':
      pixels.append(f.read(size) if with_pixels else b'')
    elif keyword in ORIENTATION:  # may follow the pixels, in front of which it is moved
      chunk = f.read(size)
      if _is_readable(kept[:1], chunk):
        orientation[keyword] = chunk  # the last of several, as in Pillow
    elif kind[:1].isupper() or not pixels and (  # critical; transparency; frames
        kind in (b'tRNS', b'acTL') or kind == b'fcTL' and b'acTL' in kinds):
      kept.append(f.read(size))
  if not pixels:
    raise ValueError('it ends before its pixels')
  if not with_pixels:
    pixels = [_empty(b'IDAT')]
  return io.BytesIO(b''.join((
      MAGIC, *kept, *orientation.values(), *pixels, _empty(b'IEND')))), names


def _chunks(f):
  """Yields (kind, keyword of a text, else the kind again, size in bytes) of each chunk of a file.

  The file's position is then the beginning of the chunk.
  """
  at = f.seek(len(MAGIC))
  while len(head := f.read(8)) == 8:
    length, kind = struct.unpack('>I4s', head)
    keyword = f.read(min(length, KEYWORD_SIZE)).partition(b'\0')[0] if kind in TEXTS else kind
    f.seek(at)
    yield kind, keyword, length + 12
    at = f.seek(at + length + 12)


def _empty(kind):
  """A chunk without content."""
  return struct.pack('>I4sI', 0, kind, zlib.crc32(kind))


def _is_readable(header, chunk):
  """Whether Pillow reads a file with this header, [IHDR], and this chunk of metadata."""
  from PIL import Image
  data = io.BytesIO(b''.join((MAGIC, *header, chunk, _empty(b'IDAT'))))
  with contextlib.suppress(Exception), Image.open(data) as image:
    Image.Image.getexif(image)  # PNG's own would decode the pixels
    return True
  return False

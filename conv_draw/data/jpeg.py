"""JPEG files without the segments of metadata for which Pillow would refuse them.

Pillow refuses a file for a segment that is cut short, such as a colour profile of a few bytes,
though libjpeg decodes the pixels, and takes no notice of such segments.
"""

import io
import re

MAGIC = b'\xff\xd8\xff'
SEGMENT = re.compile(rb'\xff+([\xc0-\xd9\xdb-\xfe])(..)', re.DOTALL)  # any but the one of pixels
# Names for users, by how a segment begins that may be left out.
NAMES = {b'ICC_PROFILE\0': 'ICC profile', b'Photoshop 3.0\0': 'IPTC'}
_PIXEL = b'\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0' + b'\xff\xda\0\x08\1\1\0\0\x3f\0'  # grey, 1x1


def is_one(f):
  """Whether a file, open for reading in binary, begins as JPEG files do."""
  f.seek(0)
  return f.read(len(MAGIC)) == MAGIC


def essence(f):
  """What Pillow can read of a file, open for reading in binary; and names of what is left out.

  Returns:
    (`io.BytesIO`, [str]).
  """
  f.seek(0)
  data = f.read()
  kept, left_out, at = [data[:2]], [], 2
  while found := SEGMENT.match(data, at):
    end = found.start(2) + int.from_bytes(found[2])
    segment = data[at:end]
    if 0xe0 <= found[1][0] <= 0xef and not _is_read(segment):
      left_out += [name for key, name in NAMES.items() if data.startswith(key, found.end())]
    else:
      kept.append(segment)
    at = end
  return io.BytesIO(b''.join((*kept, data[at:]))), left_out


def _is_read(segment):
  """Whether Pillow reads a file with this segment of metadata."""
  from PIL import Image
  try:
    Image.open(io.BytesIO(MAGIC[:2] + segment + _PIXEL), formats=('JPEG',)).close()
  except Exception:  # Pillow raises almost anything
    return False
  return True

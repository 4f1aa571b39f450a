"""JPEG files without the metadata segments for which Pillow would refuse them.

Pillow refuses a file for a segment that is cut short, such as a colour profile of a few bytes.
libjpeg ignores such segments and decodes the pixels.
"""

import contextlib
import io
import re

MAGIC = b'\xff\xd8\xff'
SEGMENT = re.compile(rb'\xff+([\xc0-\xd9\xdb-\xfe])(..)', re.DOTALL)  # any but SOS, the pixels
NAMES = {b'ICC_PROFILE\0': 'ICC profile', b'Photoshop 3.0\0': 'IPTC'}  # by a segment's beginning
_PIXEL = b'\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0' + b'\xff\xda\0\x08\1\1\0\0\x3f\0'  # grey, 1x1


def stripped(f):
  """The file without segments that Pillow cannot read; and names of those.

  Args:
    f: the file, open for reading in binary.
  Returns:
    (`io.BytesIO`, [str]).
  """
  f.seek(0)
  data = f.read()
  kept, names, at = [data[:2]], [], 2
  while found := SEGMENT.match(data, at):
    end = found.start(2) + int.from_bytes(found[2])
    segment = data[at:end]
    if 0xe0 <= found[1][0] <= 0xef and not _is_readable(segment):
      names += [name for key, name in NAMES.items() if data.startswith(key, found.end())]
    else:
      kept.append(segment)
    at = end
  return io.BytesIO(b''.join((*kept, data[at:]))), names


def _is_readable(segment):
  """Whether Pillow reads a file with this segment of metadata."""
  from PIL import Image
  data = io.BytesIO(MAGIC[:2] + segment + _PIXEL)
  with contextlib.suppress(Exception), Image.open(data, formats=('JPEG',)):
    return True
  return False

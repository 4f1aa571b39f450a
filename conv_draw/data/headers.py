"""What image files say of themselves in front of their pixels, asked where Pillow does not tell.

`source` is everywhere the path of a file or an `io.BytesIO` of it, `image` what Pillow has opened.
"""

import contextlib
import io
import struct

ORIENTATION = 0x0112  # EXIF's tag: how a camera was held
TURNED = (5, 6, 7, 8)  # of its values: width and height are exchanged


def upright_size(image, source):
  """(width, height) of an image as `ImageOps.exif_transpose` turns it, mostly without decoding."""
  size = image.size
  if image.format == 'TIFF':  # Pillow has turned this size already, or not: it has done both.
    size = image.tag_v2[256], image.tag_v2[257]
  return size[::-1] if _exif(image, source).get(ORIENTATION) in TURNED else size


def _exif(image, source):
  """Pillow's `Exif` of an image, which for that is decoded if it ends in its metadata."""
  if image.format == 'PNG':
    from PIL import Image
    if _ends_in_metadata(source):
      image.load()
    return Image.Image.getexif(image)  # PNG's own decodes whatever has no EXIF.
  return image.getexif()


def _ends_in_metadata(source):
  """Whether behind the pixels of a PNG file is something that may say how it is turned."""
  behind = False
  with _opened(source) as f:
    f.seek(8)
    while len(head := f.read(8)) == 8:
      size, kind = struct.unpack('>I4s', head)
      begin = f.read(min(size, 32))
      if behind and (kind == b'eXIf' or kind in (b'tEXt', b'zTXt', b'iTXt') and begin.startswith(
          (b'Raw profile type exif\0', b'XML:com.adobe.xmp\0'))):
        return True
      behind |= kind == b'IDAT'
      f.seek(size - len(begin) + 4, 1)
  return False


@contextlib.contextmanager
def _opened(source):
  """A file of its own, whose position nobody else uses."""
  if isinstance(source, io.BytesIO):
    yield io.BytesIO(source.getvalue())
  else:
    with open(source, 'rb') as f:
      yield f

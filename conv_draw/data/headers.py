"""What image files say of themselves in front of their pixels, asked where Pillow does not tell.

`source` is everywhere the path of a file or an `io.BytesIO` of it, `image` what Pillow has opened.
"""

import contextlib
import io
import re
import struct

ORIENTATION = 0x0112  # EXIF's tag: how a camera was held
TURNED = (5, 6, 7, 8)  # of its values: width and height are exchanged
WHOLE = ('1', 'L', 'P', 'RGB')  # Pillow's modes that `convert` to L and RGB keeps whole
BEGINNING = 2**16  # bytes in which AVIF and JPEG 2000 describe their pixels
# What pixels do not hold: names for Pillow's. Not the resolution, nor sRGB, which is the usual.
OTHERS = {
    'icc_profile': 'ICC profile', 'gamma': 'gamma', 'chromaticity': 'primaries', 'exif': 'EXIF',
    'Raw profile type exif': 'EXIF', 'xmp': 'XMP', 'XML:com.adobe.xmp': 'XMP',
    'photoshop': 'IPTC', 'comment': 'comment'}


def upright_size(image, source):
  """(width, height) of an image as `ImageOps.exif_transpose` turns it, mostly without decoding."""
  size = image.size
  if image.format == 'TIFF':  # Pillow has turned this size already, or not: it has done both.
    size = image.tag_v2[256], image.tag_v2[257]
  return size[::-1] if _exif(image, source).get(ORIENTATION) in TURNED else size


def bits(image, source):
  """Bits of one channel in the file, or 16 for more than 8, which Pillow cuts in some formats."""
  if image.mode[0] in 'IF':
    return 16
  with _opened(source) as f:
    data = f.read(BEGINNING)
  if image.format == 'PNG':
    return data[24]
  if image.format == 'TIFF':
    return max(image.tag_v2.get(258, (1,)))
  if image.format == 'PPM' and data[:2] in (b'P2', b'P3', b'P5', b'P6'):
    tokens = re.sub(rb'#[^\r\n]*', b' ', data).split(maxsplit=4)
    return int(tokens[3]).bit_length()  # the largest value
  if image.format == 'JPEG2000':
    at = data.index(b'\xff\x4f\xff\x51')  # SOC, SIZ
    count, = struct.unpack_from('>H', data, at + 40)
    return max((size & 0x7f) + 1 for size in data[at + 42 : at + 42 + 3 * count : 3])
  if image.format == 'AVIF':
    return 16 if any(data[at.end() + 2] & 0x40 for at in re.finditer(b'av1C', data)) else 8
  if image.format == 'SGI':
    return 8 * data[3]
  if image.format == 'DDS' and 'BC6' in str(image.tile):
    return 16
  return 8


def strange_colours(image):
  """What is not grey or RGB in an image, such as 'CMYK' or '4-channel'; None if all of it is."""
  if image.mode not in WHOLE:
    return image.mode
  if image.format == 'TIFF' and (count := image.tag_v2.get(277, 1)) > len(image.getbands()):
    return f'{count}-channel'
  return None


def pictures(image):
  """How many frames, pages, layers or sizes an image file has, if others than the first count.

  In MPO, which cameras call JPEG, the others are previews or depths as a rule: see `others`.
  """
  if image.format in ('ICO', 'ICNS', 'CUR'):
    return len(image.info.get('sizes', (0,)))
  return 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)


def others(image):
  """What a file holds besides pixels, [str] in the order of `OTHERS`; `image` has been decoded."""
  found = dict.fromkeys(name for key, name in OTHERS.items() if image.info.get(key))
  if image.format == 'TIFF' and 34665 in image.tag_v2:
    found['EXIF'] = None
  if image.format == 'PNG' and set(image.text) - set(OTHERS):
    found['text'] = None
  if image.format == 'MPO' and image.n_frames > 1:
    found['further pictures'] = None
  return list(found)


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

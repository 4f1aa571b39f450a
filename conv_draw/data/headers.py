"""What image files say of themselves in front of their pixels, asked where Pillow does not tell.

`source` is everywhere the path of a file or an `io.BytesIO` of it, `image` what Pillow has opened.
"""

import contextlib
import io
import re
import struct
import warnings

from conv_draw.data import jpeg, png

# Pillow says on stderr what it cannot read of metadata, which are not kept anyway, and which images
# are large. Once for the process: what `warnings.catch_warnings` does, it does to all threads.
warnings.filterwarnings('ignore', category=UserWarning, module=r'PIL\.\w+ImagePlugin')
warnings.filterwarnings('ignore', 'Image size .* exceeds limit', RuntimeWarning, r'PIL\.Image')

ORIENTATION = 0x0112  # EXIF's tag: how a camera was held
TURNED = (5, 6, 7, 8)  # of its values: width and height are exchanged
WHOLE = ('1', 'L', 'P', 'RGB')  # Pillow's modes that `convert` to L and RGB keeps whole
BEGINNING = 2**16  # bytes in which AVIF and JPEG 2000 describe their pixels
# What pixels do not hold: names for Pillow's. Not the resolution, nor sRGB, which is the usual.
OTHERS = {
    'icc_profile': 'ICC profile', 'cICP': 'colour space', 'gamma': 'gamma',
    'chromaticity': 'primaries', 'exif': 'EXIF', 'Raw profile type exif': 'EXIF', 'xmp': 'XMP',
    'XML:com.adobe.xmp': 'XMP', 'photoshop': 'IPTC', 'comment': 'comment'}
LAST = ('text', 'further pictures')  # more of them, which Pillow has elsewhere
LEFT_OUT = 'left out'  # key of an image's `info`: those that Pillow has not been given


def image(source, with_pixels=False):
  """PIL image of which only the header has been read; of PNG files, only it if not `with_pixels`.

  Raises:
    Exception: almost any, as of Pillow, if it is not an image.
  """
  from PIL import Image
  with opened(source) as f:
    if png.is_one(f):
      return Image.open(png.essence(f, with_pixels))
  try:
    return Image.open(source)
  except Image.UnidentifiedImageError:
    with opened(source) as f:
      if not jpeg.is_one(f):
        raise
      data, left_out = jpeg.essence(f)
  found = Image.open(data)
  found.info[LEFT_OUT] = left_out
  return found


def stored_size(image):
  """(width, height) of an image's pixels as they are stored."""
  if image.format == 'TIFF':  # Pillow has turned `size` already, or not: it has done both.
    return image.tag_v2[256], image.tag_v2[257]
  return image.size


def upright_size(image):
  """(width, height) of an image as `upright` turns it."""
  size = stored_size(image)
  return size[::-1] if _orientation(image) in TURNED else size


def upright(image):
  """A decoded image as its metadata say that it is to be seen; not turned if they are broken."""
  from PIL import Image, ImageOps
  orientation = _orientation(image)  # of TIFF, Pillow has applied it and taken it away
  image = image.copy()
  exif = Image.Exif()  # that tag alone: whatever else is there need not be writable
  if orientation in range(1, 9):
    exif[ORIENTATION] = orientation
  image.info = {'exif': exif.tobytes()}
  return ImageOps.exif_transpose(image)


def bits(image, source):
  """Bits of one channel in the file, or 16 for more than 8, which Pillow cuts in some formats."""
  if image.mode[0] in 'IF':
    return 16
  with opened(source) as f:
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


def others(image, source):
  """What a file holds besides pixels, [str] in the order of `OTHERS`; `image` has been decoded."""
  if image.format == 'PNG':
    with opened(source) as f:
      found = set(png.others(f))
  else:
    found = {name for key, name in OTHERS.items() if key in image.info}  # None if it is broken
    found.update(image.info.get(LEFT_OUT, ()))
  if image.format == 'TIFF' and 34665 in image.tag_v2:
    found.add('EXIF')
  if image.format == 'MPO' and image.n_frames > 1:
    found.add('further pictures')
  return [name for name in dict.fromkeys([*OTHERS.values(), *LAST]) if name in found]


def _orientation(image):
  """EXIF's tag of an image, or 1 if that is broken."""
  from PIL import Image
  try:
    return Image.Image.getexif(image).get(ORIENTATION, 1)  # PNG's own decodes whatever has no EXIF
  except Exception:  # Pillow raises almost anything on broken metadata
    return 1


@contextlib.contextmanager
def opened(source):
  """A file of its own, whose position nobody else uses."""
  if isinstance(source, io.BytesIO):
    yield io.BytesIO(source.getvalue())
  else:
    with open(source, 'rb') as f:
      yield f

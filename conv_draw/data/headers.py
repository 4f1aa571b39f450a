"""Properties of image files that are read before their pixels, where Pillow does not give them.

`source` is always the path of a file or an `io.BytesIO` of it, `image` what `image` has opened.
"""

import contextlib
import io
import re
import struct
import warnings

from conv_draw.data import jpeg, png

# Pillow warns of metadata that it cannot read, which are not kept anyway, and of large images. The
# filters are set once for the process: `warnings.catch_warnings` would set them in all threads.
warnings.filterwarnings('ignore', category=UserWarning, module=r'PIL\.\w+ImagePlugin')
warnings.filterwarnings('ignore', 'Image size .* exceeds limit', RuntimeWarning, r'PIL\.Image')

ORIENTATION = 0x0112  # EXIF tag
TRANSPOSED = (5, 6, 7, 8)  # its values that exchange width and height
RGB_MODES = ('1', 'L', 'P', 'RGB')  # Pillow's modes that `convert` to L or RGB without loss
HEADER_SIZE = 2**16  # bytes in which AVIF and JPEG 2000 describe their pixels
# Names of metadata by Pillow's keys. Without the resolution, and sRGB, which is the default.
METADATA = {
    'icc_profile': 'ICC profile', 'cICP': 'colour space', 'gamma': 'gamma',
    'chromaticity': 'primaries', 'exif': 'EXIF', 'Raw profile type exif': 'EXIF', 'xmp': 'XMP',
    'XML:com.adobe.xmp': 'XMP', 'photoshop': 'IPTC', 'comment': 'comment'}
OTHER_METADATA = ('text', 'further pictures')
STRIPPED = 'stripped'  # key of an image's `info`: names of metadata that were removed for Pillow


def image(source, with_pixels=False):
  """PIL image, of which only the header has been read.

  Args:
    with_pixels: whether its pixels can be loaded, if it is a PNG file; others always can.
  Raises:
    Exception: almost any, from Pillow, if it is not an image.
  """
  from PIL import Image
  with opened(source) as f:
    start = f.read(len(png.MAGIC))
    if start == png.MAGIC:
      data, names = png.stripped(f, with_pixels)
    else:
      try:
        return Image.open(source)
      except Image.UnidentifiedImageError:
        if not start.startswith(jpeg.MAGIC):
          raise
        data, names = jpeg.stripped(f)
  found = Image.open(data)
  if found.mode == 'P' and found.palette is None:
    raise ValueError('its pixels are indices into a palette, which it does not have')
  found.info[STRIPPED] = names
  return found


def stored_size(image):
  """(width, height) of an image's pixels as they are stored."""
  if image.format == 'TIFF':  # Pillow gives the upright or the stored size, by compression
    return image.tag_v2[256], image.tag_v2[257]
  return image.size


def upright_size(image):
  """(width, height) of an image as `upright` turns it."""
  size = stored_size(image)
  return size[::-1] if _orientation(image) in TRANSPOSED else size


def upright(image):
  """A decoded image turned by its orientation tag; as it is if the tag is broken."""
  from PIL import Image, ImageOps
  orientation = _orientation(image)  # Pillow has applied and removed that of TIFF
  image = image.copy()
  exif = Image.Exif()  # only this tag: Pillow may be unable to write others
  if orientation in range(1, 9):
    exif[ORIENTATION] = orientation
  image.info = {'exif': exif.tobytes()}
  return ImageOps.exif_transpose(image)


def bits(image, source):
  """Bits of a channel in the file, or 16 for more than 8: Pillow reduces some formats to 8."""
  if image.mode[0] in 'IF':
    return 16
  with opened(source) as f:
    data = f.read(HEADER_SIZE)
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


def unsupported_colours(image):
  """Colours of an image other than grey and RGB, such as 'CMYK' or '4-channel'; None if none."""
  if image.mode not in RGB_MODES:
    return image.mode
  if image.format == 'TIFF' and (count := image.tag_v2.get(277, 1)) > len(image.getbands()):
    return f'{count}-channel'
  return None


def frames(image):
  """Number of frames, pages, layers or sizes of an image file.

  1 for MPO, which cameras call JPEG: its further pictures are previews or depth maps, and
  `metadata` names them.
  """
  if image.format in ('ICO', 'ICNS', 'CUR'):
    return len(image.info.get('sizes', (0,)))
  return 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)


def metadata(image):
  """Names of what the file of a decoded image holds besides pixels, [str]."""
  found = {name for key, name in METADATA.items() if key in image.info}  # also if it is broken
  found.update(image.info.get(STRIPPED, ()))
  if image.format == 'TIFF' and 34665 in image.tag_v2:
    found.add('EXIF')
  if image.format == 'MPO' and image.n_frames > 1:
    found.add('further pictures')
  return [name for name in dict.fromkeys([*METADATA.values(), *OTHER_METADATA]) if name in found]


def _orientation(image):
  """The EXIF orientation of an image, or 1 if its EXIF is broken."""
  from PIL import Image
  try:
    return Image.Image.getexif(image).get(ORIENTATION, 1)  # PNG's own would decode the pixels
  except Exception:  # Pillow raises almost any exception for broken metadata
    return 1


@contextlib.contextmanager
def opened(source):
  """A file object that shares its position with no other."""
  if isinstance(source, io.BytesIO):
    yield io.BytesIO(source.getvalue())
  else:
    with open(source, 'rb') as f:
      yield f

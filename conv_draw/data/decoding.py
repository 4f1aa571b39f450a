"""Pixels of image files, and whether they are those that the files hold.

Pillow's decoders find data that are cut off. They do not all find a stream that ends early but
properly: the rest of the picture then stays as the canvas was, or is made up. Nor do they find
indices that a palette does not have.
"""

import io
import re

from conv_draw.data import headers

# What a JPEG decoder takes for blocks of pixels, with each of the markers from which it restarts.
_BLOCKS = bytes((73 * i + 41) % 255 for i in range(255))
_NOISE = b''.join(_BLOCKS + bytes((0xff, 0xd0 + i % 8)) for i in range(9)) + _BLOCKS
_JPEG = ('JPEG', 'MPO')
_COUNTED = ('GIF', 'WEBP', 'AVIF')  # decoders that find a lack of pixels themselves


def decoded(source, check=True):
  """PIL image of a file, upright; and `headers.others` of it.

  Args:
    source: path of a file, or `io.BytesIO` of it.
    check: whether all pixels must be found to be the file's own, which takes as long again.
  Raises:
    Exception: almost any, as of Pillow, if the file is damaged.
  """
  with headers.image(source, with_pixels=True) as image:
    image.load()
  if check:
    check_whole(image, source)
  return headers.upright(image), headers.others(image, source)


def check_whole(image, source):
  """Raises an exception unless a decoded image is what its file holds."""
  if image.mode == 'P':
    colours, index = len(image.getpalette()) // 3, image.getextrema()[1]
    if index >= colours:
      raise ValueError(f'a pixel has colour {index}, and the palette {colours} from 0 on')
  if image.format == 'PNG':
    with headers.image(source, with_pixels=True) as again:
      again.verify()  # checksums, which `load` leaves
  again = _decoded_otherwise(image, source)
  if again is not None and again.tobytes() != image.tobytes():
    raise ValueError('its data end before the last pixel')


def _decoded_otherwise(image, source):
  """The image decoded again, so that pixels which are not in the file come out otherwise.

  Returns:
    PIL image; None where this cannot be told.
  """
  from PIL import Image
  if image.format in _COUNTED:
    return None
  if image.format in _JPEG:  # the decoder makes up the rest, unless there are data
    with headers.opened(source) as f:
      data = _with_noise(f.read())
    if data is None:
      return None
    again = Image.open(io.BytesIO(data), formats=('JPEG',))
  else:
    again = headers.image(source, with_pixels=True)
    bands = len(again.getbands())
    again.im = Image.new(
        again.mode, headers.stored_size(again), (255,) * bands if bands > 1 else 255).im
  with again:
    again.load()
  return again


def _with_noise(data):
  """A JPEG file with noise between its last scan and its end: if the scan is whole, it is skipped.

  Returns:
    bytes; None for arithmetic coding, whose scans may end early, or if there is no end.
  """
  at = 2
  while (marker := re.compile(rb'\xff+([^\x00\xd0-\xd7\xff])').search(data, at)):
    kind, at = marker[1][0], marker.end()
    if kind == 0xd9:
      return data[: marker.start()] + _NOISE + data[marker.start() :]
    if 0xc9 <= kind <= 0xcf and kind != 0xcc:
      return None
    at += int.from_bytes(data[at : at + 2], 'big')
  return None

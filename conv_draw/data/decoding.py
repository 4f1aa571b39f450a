"""Pixels of image files, and whether they are those that the files hold.

Pillow's decoders find data that are cut off. They do not all find a stream that ends early but
properly: the rest of the picture then stays as the canvas was, or is made up. Nor do they find
indices that a palette does not have.
"""

from conv_draw.data import headers

# Formats whose decoders find a lack of pixels themselves, or, of JPEG, make pixels up.
_COUNTED = ('GIF', 'WEBP', 'AVIF', 'JPEG', 'MPO')


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
  again = headers.image(source, with_pixels=True)
  bands = len(again.getbands())
  again.im = Image.new(
      again.mode, headers.stored_size(again), (255,) * bands if bands > 1 else 255).im
  with again:
    again.load()
  return again

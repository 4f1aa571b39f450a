"""Decoded pixels of image files, and a check that the files hold all of them.

Pillow's decoders find data that are cut off. Some do not find a compressed stream that is complete
but ends before the last pixel: the other pixels keep their initial value. Nor do they find indices
beyond the end of a palette.
"""

from conv_draw.data import headers

# Formats whose decoders find missing pixels themselves, or, of JPEG, fill them in.
_COMPLETE = ('GIF', 'WEBP', 'AVIF', 'JPEG', 'MPO')


def decode(source, check=True):
  """PIL image of a file, upright; and the file's `headers.metadata`.

  Args:
    source: path of a file, or `io.BytesIO` of it.
    check: whether to check that the file holds all pixels, which doubles the time.
  Raises:
    Exception: almost any, from Pillow, if the file is damaged.
  """
  with headers.image(source, with_pixels=True) as image:
    image.load()
  if check:
    check_complete(image, source)
  return headers.upright(image), headers.metadata(image)


def check_complete(image, source):
  """Raises an exception unless a decoded image is what its file holds."""
  from PIL import Image
  if image.mode == 'P':
    colours, index = len(image.getpalette()) // 3, image.getextrema()[1]
    if index >= colours:
      raise ValueError(f'a pixel has colour {index}, and the palette {colours} colours')
  if image.format == 'PNG':
    with headers.image(source, with_pixels=True) as again:
      again.verify()  # checksums, which `load` does not verify
  if image.format in _COMPLETE:
    return
  # Decoding onto white leaves other values in the pixels that the file does not hold.
  with headers.image(source, with_pixels=True) as again:
    white = (255,) * len(again.getbands())
    again.im = Image.new(again.mode, headers.stored_size(again), white).im
    again.load()
    if again.tobytes() != image.tobytes():
      raise ValueError('its data end before the last pixel')

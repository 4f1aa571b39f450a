"""Bit depth, frames, colours and metadata of image files."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from conv_draw.data import folder, headers
from tests.data.data_sets import refused
from tests.data.image_files import HEIGHT, RGB, WIDTH, chunk, saved


def frames(format_):
  """An image file of two frames."""
  return saved(format_, save_all=True, append_images=[Image.new('RGB', (WIDTH, HEIGHT), 'red')])


def tiff_16_bits():
  """A TIFF of two RGB pixels, with two bytes for each channel."""
  tags = ((256, 4, 1, 2), (257, 4, 1, 1), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2),
          (273, 4, 1, 128), (277, 3, 1, 3), (278, 4, 1, 1), (279, 4, 1, 12))
  return (b'II*\0' + struct.pack('<IH', 8, len(tags))
          + b''.join(struct.pack('<HHII', *tag) for tag in tags) + bytes(4)
          + struct.pack('<3H', 16, 16, 16) + bytes(12))


def jpeg2000_16_bits():
  data = bytearray(saved('JPEG2000', no_jp2=True))
  data[42:51:3] = b'\x0f' * 3  # Ssiz: bits less one
  return bytes(data)


@pytest.mark.parametrize('build, words', [
    (lambda: b'P6 # 255\n2\n#1\n1 256\n' + bytes(12), '8 bits'),
    (lambda: b'P3 2 1 1000 0 0 0 1000 1000 999\n', '8 bits'),
    (lambda: b'Pf 2 1 -1.0\n' + bytes(8), '8 bits'),
    (tiff_16_bits, '8 bits'),
    (jpeg2000_16_bits, '8 bits'),
    (lambda: saved('SGI', bpc=2), '8 bits'),
    (lambda: frames('GIF'), '2 frames'),
    (lambda: frames('PNG'), '2 frames'),
    (lambda: frames('AVIF'), '2 frames'),
    (lambda: saved('ICO', np.tile(RGB, (2, 2, 1)), sizes=[(16, 16), (32, 32)]), '2 frames'),
    (lambda: saved('JPEG', mode='CMYK'), 'CMYK'),
    (lambda: saved('TIFF', mode='RGBX'), '4-channel')])
def test_file_that_8_bit_pixels_do_not_hold_is_refused(tmp_path, build, words):
  path = tmp_path / 'odd'
  path.write_bytes(build())
  with refused(path, words):
    folder.read(path)


def test_avif_of_10_bits_is_recognised():
  """Pillow writes none: the bit in the header is set here."""
  data = bytearray(saved('AVIF'))
  with Image.open(io.BytesIO(data)) as image:
    assert headers.bits(image, io.BytesIO(data)) == 8
    data[data.index(b'av1C') + 6] |= 0x40
    assert headers.bits(image, io.BytesIO(data)) == 16


def test_file_that_8_bit_pixels_hold_is_read():
  # A bitmap of 5, 6 and 5 bits, which Pillow calls BGR;16.
  header = struct.pack('<IiiHHIIiiII', 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
  bitmap = (b'BM' + struct.pack('<IHHI', 70, 0, 0, 66) + header
            + struct.pack('<III', 0xF800, 0x07E0, 0x001F) + struct.pack('<HH', 0xF800, 0x001F))
  for data, expected in (
      (bitmap, [[[255, 0, 0], [0, 0, 255]]]),
      (b'P5 2 1 3\n\x01\x03', [[[85], [255]]]),
      (b'P1 2 1 1 0\n', [[[0], [255]]])):
    pixels, metadata = folder.read(io.BytesIO(data))
    np.testing.assert_array_equal(pixels, expected)
    assert metadata == []
  for format_ in ('PNG', 'TIFF', 'WEBP', 'JPEG2000', 'AVIF', 'SGI', 'GIF', 'TGA', 'PPM', 'BMP'):
    assert folder.read(io.BytesIO(saved(format_)))[0].shape == RGB.shape


def test_metadata_are_named():
  exif, text = Image.Exif(), PngImagePlugin.PngInfo()
  exif[0x010F] = 'camera'
  text.add_text('Title', 'a picture')
  png = saved('PNG', exif=exif, icc_profile=b'profile', pnginfo=text)
  png = png[:33] + chunk(b'gAMA', struct.pack('>I', 45455)) + png[33:]
  assert folder.read(io.BytesIO(png))[1] == ['ICC profile', 'gamma', 'EXIF', 'text']
  jpeg = saved('JPEG', exif=exif, comment=b'comment', dpi=(300, 300), xmp=b'<x/>')
  assert folder.read(io.BytesIO(jpeg))[1] == ['EXIF', 'XMP', 'comment']
  tiff = saved('TIFF', icc_profile=b'profile')
  assert folder.read(io.BytesIO(tiff))[1] == ['ICC profile']
  # A camera's JPEG, followed by a preview.
  pixels, metadata = folder.read(io.BytesIO(frames('MPO')))
  assert pixels.shape == RGB.shape and metadata[-1:] == ['further pictures']

"""JPEG files with segments of metadata that are cut short."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from conv_draw.data import folder
from tests.data.png_files import HEIGHT, RGB, WIDTH

pytestmark = pytest.mark.filterwarnings('ignore:.*:UserWarning')  # Pillow's: programs ignore them


def jpeg(*segments):
  """A file with these (marker, data) in front of all others."""
  out = io.BytesIO()
  Image.fromarray(RGB).save(out, 'JPEG')
  data = out.getvalue()
  return b''.join((data[:2], *(
      struct.pack('>BBH', 0xff, marker, len(content) + 2) + content
      for marker, content in segments), data[2:]))


RESOURCE = b'Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10' + bytes(16) + b'8BIM\x04\x04\0\0\0\0\0\1a'
TURNED = (0xe1, b'Exif\0\0' + struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, 0x0112, 3, 1, 6, 0, 0))


@pytest.mark.parametrize('marker, whole, names', [
    (0xe0, b'JFIF\0\1\1\1\0\x48\0\x48\0\0', [[]]),
    (0xe1, b'Exif\0\0' + TURNED[1][6:20], [[], ['EXIF']]),
    (0xe2, b'ICC_PROFILE\0\1\2profile', [[], ['ICC profile']]),
    (0xe2, b'MPF\0II*\0\x08\0\0\0', [[]]),
    (0xed, RESOURCE, [[], ['IPTC']]),
    (0xee, b'Adobe\0\x64\0\0\0\0\1', [[]])])
def test_pixels_are_read_wherever_a_segment_is_cut(marker, whole, names):
  expected = folder.read(io.BytesIO(jpeg()))[0]
  seen = []
  for length in range(len(whole) + 1):
    pixels, others = folder.read(io.BytesIO(jpeg((marker, whole[:length]))))
    np.testing.assert_array_equal(pixels, expected)
    seen.append(others)
  assert [others for at, others in enumerate(seen) if others not in seen[:at]] == names


def test_a_segment_that_is_cut_hides_no_others():
  """Nor how the image is turned, nor that its pixels are damaged."""
  cut = (0xe2, b'ICC_PROFILE\0')
  for segments in ((cut, TURNED), (TURNED, cut)):
    data = jpeg(*segments)
    pixels, others = folder.read(io.BytesIO(data))
    assert pixels.shape == (WIDTH, HEIGHT, 3) and others == ['ICC profile', 'EXIF']
    assert folder._header(io.BytesIO(data), 0)[1] == (HEIGHT, WIDTH)
  for damaged in (jpeg(cut)[:-300], jpeg(cut).replace(b'\xff\xc0', b'\xff\xc3'), jpeg(cut)[:12]):
    with pytest.raises(ValueError, match='cannot be read'):
      folder.read(io.BytesIO(damaged))

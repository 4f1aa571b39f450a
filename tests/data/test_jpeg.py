"""JPEG files with metadata segments that are cut short."""

import io
import struct

import numpy as np
import pytest

from conv_draw.data import folder
from tests.data.data_sets import refused
from tests.data.image_files import HEIGHT, WIDTH, saved

pytestmark = pytest.mark.filterwarnings('ignore:.*:UserWarning')  # programs ignore Pillow's


def jpeg(*segments):
  """A file with these (marker, data) in front of all others."""
  data = saved('JPEG')
  return b''.join((data[:2], *(
      struct.pack('>BBH', 0xff, marker, len(content) + 2) + content
      for marker, content in segments), data[2:]))


RESOURCE = b'Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10' + bytes(16) + b'8BIM\x04\x04\0\0\0\0\0\1a'
ROTATED = (0xe1, b'Exif\0\0' + struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, 0x0112, 3, 1, 6, 0, 0))


@pytest.mark.parametrize('marker, whole, names', [
    (0xe0, b'JFIF\0\1\1\1\0\x48\0\x48\0\0', [[]]),
    (0xe1, b'Exif\0\0' + ROTATED[1][6:20], [[], ['EXIF']]),
    (0xe2, b'ICC_PROFILE\0\1\2profile', [[], ['ICC profile']]),
    (0xe2, b'MPF\0II*\0\x08\0\0\0', [[]]),
    (0xed, RESOURCE, [[], ['IPTC']]),
    (0xee, b'Adobe\0\x64\0\0\0\0\1', [[]])])
def test_pixels_are_read_wherever_a_segment_is_cut(marker, whole, names):
  expected = folder.read(io.BytesIO(jpeg()))[0]
  seen = []
  for length in range(len(whole) + 1):
    pixels, metadata = folder.read(io.BytesIO(jpeg((marker, whole[:length]))))
    np.testing.assert_array_equal(pixels, expected)
    seen.append(metadata)
  assert [metadata for at, metadata in enumerate(seen) if metadata not in seen[:at]] == names


def test_cut_segment_hides_neither_orientation_nor_damage():
  cut = (0xe2, b'ICC_PROFILE\0')
  for segments in ((cut, ROTATED), (ROTATED, cut)):
    pixels, metadata = folder.read(io.BytesIO(jpeg(*segments)))
    assert pixels.shape == (WIDTH, HEIGHT, 3) and metadata == ['ICC profile', 'EXIF']
  for damaged in (jpeg(cut)[:-300], jpeg(cut).replace(b'\xff\xc0', b'\xff\xc3'), jpeg(cut)[:12]):
    with refused('cannot be read'):
      folder.read(io.BytesIO(damaged))

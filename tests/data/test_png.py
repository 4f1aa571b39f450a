"""PNG files with metadata for which Pillow would refuse them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from conv_draw.data import folder
from tests.data.data_sets import refused
from tests.data.image_files import HEIGHT, RGB, WIDTH, chunk, interlaced, png, rows

pytestmark = pytest.mark.filterwarnings('ignore:.*:UserWarning')  # programs ignore Pillow's

LONG = zlib.compress(b'{"prompt": "a photograph"}' * 80_000)  # 2 MB: Pillow reads 1 MB
ROTATED = struct.pack(
    '<2sHIHHHIIHHIII', b'II', 42, 8, 2, 0x0112, 3, 1, 6, 0x010f, 2, 99, 2**31, 0)
XMP = b'<tiff:Orientation>6</tiff:Orientation>'


@pytest.mark.parametrize('metadata, names', [
    ([chunk(b'iTXt', b'workflow\0\1\0\0\0' + LONG)], ['text']),
    ([chunk(b'zTXt', b'workflow\0\7' + LONG)], ['text']),  # an unknown compression
    ([chunk(b'tEXt', b'Title\0x', 7)], ['text']),
    ([chunk(b'iCCP', b'')], ['ICC profile']),
    ([chunk(b'gAMA', b'', 0), chunk(b'cHRM', b'1')], ['gamma', 'primaries']),
    ([chunk(b'sRGB', b''), chunk(b'pHYs', b'1')], []),
    ([chunk(b'eXIf', b'Exif\0\0not EXIF')], ['EXIF']),
    ([chunk(b'eXIf', ROTATED, 9)], ['EXIF']),
    ([chunk(b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(b'\nexif\n 1\nxy'))], ['EXIF']),
    ([chunk(b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + LONG)], ['XMP']),
    ([chunk(b'cICP', b'\1\1\0\1')], ['colour space']),
    ([chunk(b'fcTL', b'')], [])])  # without acTL
def test_pixels_are_read_with_any_metadata(metadata, names):
  for before, behind in ((metadata, []), ([], metadata)):
    pixels, found = folder.read(io.BytesIO(png(rows(RGB), before, behind)))
    np.testing.assert_array_equal(pixels, RGB)
    assert found == names


def test_texts_that_together_are_too_long_for_pillow_are_read(monkeypatch):
  monkeypatch.setattr(PngImagePlugin, 'MAX_TEXT_MEMORY', 2**21)
  text = chunk(b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + zlib.compress(bytes(10**6)))
  pixels, metadata = folder.read(io.BytesIO(png(rows(RGB), [text] * 3)))
  np.testing.assert_array_equal(pixels, RGB)
  assert metadata == ['XMP']


@pytest.mark.parametrize('sound', [
    chunk(b'eXIf', ROTATED), chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP)])
def test_broken_metadata_do_not_hide_the_orientation(sound):
  """Nor does a broken tag beside it."""
  metadata = [chunk(b'tEXt', b'Title\0x', 7), sound, chunk(b'iCCP', b'')]
  for before, behind in ((metadata, []), ([], metadata)):
    pixels, names = folder.read(io.BytesIO(png(rows(RGB), before, behind)))
    np.testing.assert_array_equal(pixels, np.rot90(RGB, -1))
    assert len(names) == 3


@pytest.mark.parametrize('data, chunks, word', [
    (rows(RGB), [chunk(b'tRNS', bytes(6))], 'alpha'),
    (rows(RGB), [chunk(b'tRNS', bytes(6), 1)], 'cannot be read'),
    (rows(RGB), [chunk(b'acTL', struct.pack('>II', 2, 0))], 'frames'),
    (rows(RGB[..., 0]), [], 'palette')])
def test_chunks_that_change_pixels_are_no_metadata(data, chunks, word):
  """A transparent colour is kept, with a wrong checksum too, and frames; a palette is needed."""
  with refused(word):
    folder.read(io.BytesIO(png(data, chunks, colour=3 if word == 'palette' else 2)))


def test_every_kind_of_png_is_read_as_by_pillow():
  index = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4
  packed = [np.packbits(np.unpackbits(index.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
                        .reshape(HEIGHT, -1), axis=-1) for bits in (1, 2, 4)]
  palette = chunk(b'PLTE', bytes(range(0, 240, 20)))
  files = [png(interlaced(RGB)[1], interlace=1), png(rows(RGB[..., 0]), colour=0),
           png(rows(index.astype(np.uint8)), [palette], colour=3),
           png(rows(RGB), [chunk(b'acTL', struct.pack('>II', 1, 0)), chunk(  # one frame
               b'fcTL', struct.pack('>5I2H2B', 0, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0))])]
  for bits, data in zip((1, 2, 4), packed, strict=True):
    files += [png(rows(data), colour=0, bits=bits), png(rows(data), [palette], colour=3, bits=bits)]
  for data in files:
    pixels, _ = folder.read(io.BytesIO(data))
    with Image.open(io.BytesIO(data)) as image:
      expected = np.asarray(image.convert('L' if pixels.shape[2] == 1 else 'RGB'))
    np.testing.assert_array_equal(pixels, expected.reshape(pixels.shape))
  np.testing.assert_array_equal(folder.read(io.BytesIO(files[0]))[0], RGB)

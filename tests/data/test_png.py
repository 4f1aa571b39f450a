"""PNG files with metadata that Pillow would refuse them for."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from conv_draw.data import folder
from tests.data.png_files import HEIGHT, RGB, WIDTH, chunk, interlaced, png, rows

pytestmark = pytest.mark.filterwarnings('ignore:.*:UserWarning')  # Pillow's: programs ignore them

LONG = zlib.compress(b'{"prompt": "a photograph"}' * 80_000)  # 2 MB: Pillow reads 1 MB
TURNED = struct.pack('<2sHIHHHIIHHIII', b'II', 42, 8, 2, 0x0112, 3, 1, 6, 0x010f, 2, 99, 2**31, 0)
XMP = b'<tiff:Orientation>6</tiff:Orientation>'


@pytest.mark.parametrize('metadata, names', [
    ([chunk(b'iTXt', b'workflow\0\1\0\0\0' + LONG)], ['text']),
    ([chunk(b'zTXt', b'workflow\0\0' + LONG)], ['text']),
    ([chunk(b'zTXt', b'workflow\0\7' + LONG)], ['text']),  # compressed in a way there is none of
    ([chunk(b'tEXt', b'Title\0x', 7)], ['text']),
    ([chunk(b'zTXt', b'key')], ['text']),
    ([chunk(b'iCCP', b'big\0\0' + zlib.compress(bytes(2**21)))], ['ICC profile']),
    ([chunk(b'iCCP', b'')], ['ICC profile']),
    ([chunk(b'gAMA', b'', 0), chunk(b'cHRM', b'1')], ['gamma', 'primaries']),
    ([chunk(b'sRGB', b''), chunk(b'pHYs', b'1')], []),
    ([chunk(b'eXIf', b'Exif\0\0nothing of the kind')], ['EXIF']),
    ([chunk(b'eXIf', TURNED[:15])], ['EXIF']),
    ([chunk(b'eXIf', TURNED, 9)], ['EXIF']),
    ([chunk(b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(b'\nexif\n 1\nxy'))], ['EXIF']),
    ([chunk(b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + LONG)], ['XMP']),
    ([chunk(b'cICP', b'\1\1\0\1')], ['colour space']),
    ([chunk(b'fcTL', bytes(3) + b'\7')], []), ([chunk(b'fcTL', b'')], [])])  # without acTL
def test_pixels_are_read_whatever_the_metadata_are(metadata, names):
  for before, behind in ((metadata, []), ([], metadata)):
    pixels, others = folder.read(io.BytesIO(png(rows(RGB), before, behind)))
    np.testing.assert_array_equal(pixels, RGB)
    assert others == names


def test_many_texts_are_read_that_together_are_too_long_for_pillow(monkeypatch):
  monkeypatch.setattr(PngImagePlugin, 'MAX_TEXT_MEMORY', 2**21)
  text = chunk(b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + zlib.compress(bytes(10**6)))
  pixels, others = folder.read(io.BytesIO(png(rows(RGB), [text] * 3)))
  np.testing.assert_array_equal(pixels, RGB)
  assert others == ['XMP']


@pytest.mark.parametrize('sound', [
    chunk(b'eXIf', TURNED), chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP)])
def test_broken_metadata_hide_no_others(sound):
  """Nor does a tag beside the one that says how the image is turned, which cannot be read."""
  metadata = [chunk(b'tEXt', b'Title\0x', 7), sound, chunk(b'iCCP', b'')]
  for before, behind in ((metadata, []), ([], metadata)):
    pixels, others = folder.read(io.BytesIO(png(rows(RGB), before, behind)))
    np.testing.assert_array_equal(pixels, np.rot90(RGB, -1))
    assert len(others) == 3
    assert folder._header(io.BytesIO(png(rows(RGB), before, behind)), 0)[1] == (HEIGHT, WIDTH)


def test_what_changes_pixels_is_no_metadata():
  """A transparent colour is not dropped, even if its checksum is wrong; nor are frames."""
  for before, words in (
      ([chunk(b'tRNS', bytes(6))], 'alpha'), ([chunk(b'tRNS', bytes(6), 1)], 'cannot be read'),
      ([chunk(b'acTL', struct.pack('>II', 2, 0))], 'frames')):
    with pytest.raises(ValueError, match=words):
      folder.read(io.BytesIO(png(rows(RGB), before)))


def test_a_palette_that_is_not_there_is_named():
  with pytest.raises(ValueError, match='palette'):
    folder.read(io.BytesIO(png(rows(RGB[..., 0]), colour=3)))


def test_every_kind_of_png_is_read_as_pillow_reads_it():
  index = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4
  packed = [np.packbits(np.unpackbits(index.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
                        .reshape(HEIGHT, -1), axis=-1) for bits in (1, 2, 4)]
  palette = chunk(b'PLTE', bytes(range(0, 240, 20)))
  files = [png(interlaced(RGB)[1], interlace=1), png(rows(RGB[..., 0]), colour=0),
           png(rows(index.astype(np.uint8)), [palette], colour=3)]
  for bits, data in zip((1, 2, 4), packed, strict=True):
    files += [png(rows(data), colour=0, bits=bits), png(rows(data), [palette], colour=3, bits=bits)]
  for data in files:
    pixels, _ = folder.read(io.BytesIO(data))
    with Image.open(io.BytesIO(data)) as image:
      expected = np.asarray(image.convert('L' if pixels.shape[2] == 1 else 'RGB'))
    np.testing.assert_array_equal(pixels, expected.reshape(pixels.shape))
  np.testing.assert_array_equal(folder.read(io.BytesIO(files[0]))[0], RGB)

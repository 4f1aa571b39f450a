"""Image files that do not hold all of their pixels, though Pillow decodes them."""

import io
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from conv_draw.data import decoding, folder, sets
from tests.data.data_sets import config, everything, refused
from tests.data.image_files import HEIGHT, RGB, WIDTH, chunk, interlaced, png, rows, saved
from tests.program import ROOT


def half_tiff():
  """Strips of the upper half, and a tag of the whole height."""
  data = bytearray(saved('TIFF', RGB[: HEIGHT // 2]))
  at, = struct.unpack_from('<I', data, 4)
  for entry in range(at + 2, at + 2 + 12 * struct.unpack_from('<H', data, at)[0], 12):
    if struct.unpack_from('<H', data, entry)[0] == 257:
      struct.pack_into('<I', data, entry + 8, HEIGHT)
  return data


def half_jpeg2000():
  """One tile, of the upper half."""
  data = bytearray(saved('JPEG2000', RGB[: HEIGHT // 2], no_jp2=True))
  struct.pack_into('>I', data, data.index(b'\xff\x51') + 10, HEIGHT)
  return data


def small_palette_bmp():
  """Indices up to 254, and a palette of 16 colours."""
  image = Image.frombytes('P', (WIDTH, HEIGHT), RGB[..., 0].tobytes())
  image.putpalette([c for i in range(256) for c in (i, 255 - i, 7)])  # Pillow reads a grey one as L
  out = io.BytesIO()
  image.save(out, 'BMP')
  data = bytearray(out.getvalue())
  struct.pack_into('<I', data, 46, 16)
  struct.pack_into('<I', data, 10, 54 + 4 * 16)
  del data[54 + 4 * 16 : 54 + 4 * 256]
  return data


DAMAGED = {
    'one row short': lambda: png(rows(RGB[:-1])), 'no row': lambda: png(b''),
    'without the last pass': lambda: png(interlaced(RGB)[0], interlace=1),
    'grey': lambda: png(rows(RGB[:4, :, 0]), colour=0),
    'palette too small by one colour': lambda: png(
        rows(RGB[..., 0]), [chunk(b'PLTE', bytes(3 * int(RGB[..., 0].max())))], colour=3),
    'checksum': lambda: png(rows(RGB)).replace(
        chunk(b'IDAT', zlib.compress(rows(RGB))), chunk(b'IDAT', zlib.compress(rows(RGB)), 1)),
    'header checksum': lambda: png(rows(RGB))[:29] + b'none' + png(rows(RGB))[33:],
    'cut': lambda: png(rows(RGB))[:500], 'TIFF': half_tiff, 'JPEG 2000': half_jpeg2000,
    'palette of BMP': small_palette_bmp}


@pytest.mark.parametrize('kind', DAMAGED)
def test_file_without_all_of_its_pixels_is_refused(tmp_path, kind):
  """By the codec, and by a data set when it fetches the image for the first time."""
  (tmp_path / 'train').mkdir()
  (tmp_path / 'test').mkdir()
  path = tmp_path / 'train' / 'odd.png'
  path.write_bytes(DAMAGED[kind]())
  (tmp_path / 'test' / 'even.png').write_bytes(png(rows(RGB)))
  with refused(path, 'cannot be read'):
    folder.read(path)
  for crop in (0, 8):
    with refused(path, 'cannot be read'):
      everything(sets.load(config('folder', tmp_path, crop=crop), 'train'))


def test_files_are_checked_once(tmp_path, monkeypatch):
  for name in 'ab':
    (tmp_path / f'{name}.png').write_bytes(png(rows(RGB)))
  images, checked = sets.load(config('folder', tmp_path), 'train'), []
  monkeypatch.setattr(decoding, 'check_complete', lambda image, source: checked.append(source))
  for _ in range(3):
    everything(images)
  assert len(checked) == 1


BROKEN = """
import io
from conv_draw.data import folder
from PIL import Image
exif = b'Exif\\0\\0II*\\0\\x08\\0\\0\\0\\x05\\0\\x12\\x01'
for format_ in ('JPEG', 'WEBP', 'AVIF', 'PNG'):
  out = io.BytesIO()
  Image.new('RGB', (16, 8)).save(out, format_, exif=Image.Exif() if format_ == 'AVIF' else exif)
  pixels, metadata = folder.read(io.BytesIO(out.getvalue()))
  assert pixels.shape == (8, 16, 3) and metadata == ['EXIF'] * (format_ != 'AVIF'), metadata
"""


def test_broken_exif_is_named_without_warnings_of_pillow():
  done = subprocess.run(
      [sys.executable, '-c', BROKEN], cwd=ROOT, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, '')

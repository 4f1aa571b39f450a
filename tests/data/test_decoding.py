"""Image files that do not hold all of their pixels, though Pillow decodes them."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from conv_draw.data import folder, sets
from conv_draw.errors import UserError
from tests.data.data_sets import config, everything, one_line
from tests.data.png_files import HEIGHT, RGB, WIDTH, chunk, interlaced, png, rows
from tests.program import ROOT


def saved(format_, pixels=RGB, **options):
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, format_, **options)
  return bytearray(out.getvalue())


def half_png():
  return png(rows(RGB[: HEIGHT // 2]))


def half_tiff(**options):
  """Strips of the upper half, and a tag of the whole height."""
  data = saved('TIFF', RGB[: HEIGHT // 2], **options)
  at, = struct.unpack_from('<I', data, 4)
  for entry in range(at + 2, at + 2 + 12 * struct.unpack_from('<H', data, at)[0], 12):
    if struct.unpack_from('<H', data, entry)[0] == 257:
      struct.pack_into('<I', data, entry + 8, HEIGHT)
  return data


def half_jpeg2000():
  """One tile, of the upper half."""
  data = saved('JPEG2000', RGB[: HEIGHT // 2], no_jp2=True)
  struct.pack_into('>I', data, data.index(b'\xff\x51') + 10, HEIGHT)
  return data


def half_gif():
  data = saved('GIF', RGB[: HEIGHT // 2, :, 0])
  at = data.index(b'\x2c\0\0\0\0' + struct.pack('<HH', WIDTH, HEIGHT // 2))
  data[8:10] = data[at + 7 : at + 9] = struct.pack('<H', HEIGHT)
  return data


def half_webp():
  data = saved('WEBP', RGB[: HEIGHT // 2], lossless=True)
  at = data.index(b'VP8L') + 9
  size, = struct.unpack_from('<I', data, at)
  struct.pack_into('<I', data, at, size & ~(0x3fff << 14) | (HEIGHT - 1) << 14)
  return data


def few_colours(format_):
  """An index that the palette does not have."""
  image = Image.frombytes('P', (WIDTH, HEIGHT), RGB[..., 0].tobytes())
  image.putpalette([c for i in range(256) for c in (i, 255 - i, 7)])
  out = io.BytesIO()
  image.save(out, format_, **dict(optimize=False) if format_ == 'GIF' else {})
  data = bytearray(out.getvalue())
  if format_ == 'GIF':
    data[10] = data[10] & 0xf8 | 1
    del data[13 + 3 * 4 : 13 + 3 * 256]
  else:
    struct.pack_into('<I', data, 46, 16)
    struct.pack_into('<I', data, 10, 54 + 4 * 16)
    del data[54 + 4 * 16 : 54 + 4 * 256]
  return data


DAMAGED = {
    'half of the rows': half_png, 'one row short': lambda: png(rows(RGB[:-1])),
    'no row': lambda: png(b''), 'half of the last row': lambda: png(rows(RGB)[:-40]),
    'without the last pass': lambda: png(interlaced(RGB)[0], interlace=1),
    'grey': lambda: png(rows(RGB[:4, :, 0]), colour=0),
    'one bit': lambda: png(rows(np.full((9, 3), 255, np.uint8)), colour=0, bits=1),
    'palette': lambda: png(rows(RGB[:8, :, 0]), [chunk(b'PLTE', bytes(768))], colour=3),
    'palette too small': lambda: png(rows(RGB[..., 0]), [chunk(b'PLTE', bytes(9))], colour=3),
    'checksum': lambda: png(rows(RGB)).replace(
        chunk(b'IDAT', zlib.compress(rows(RGB))), chunk(b'IDAT', zlib.compress(rows(RGB)), 1)),
    'header checksum': lambda: png(rows(RGB))[:29] + b'none' + png(rows(RGB))[33:],
    'TIFF': half_tiff, 'packed TIFF': lambda: half_tiff(compression='tiff_lzw'),
    'JPEG 2000': half_jpeg2000, 'GIF': half_gif, 'WebP': half_webp,
    'palette of GIF': lambda: few_colours('GIF'), 'palette of BMP': lambda: few_colours('BMP')}


@pytest.mark.parametrize('kind', DAMAGED)
def test_a_picture_of_which_a_part_is_not_in_the_file_is_refused(tmp_path, kind):
  """To be coded, and, at the first time that it is fetched, to be trained on."""
  (tmp_path / 'train').mkdir()
  (tmp_path / 'test').mkdir()
  path = tmp_path / 'train' / 'odd.png'
  path.write_bytes(DAMAGED[kind]())
  (tmp_path / 'test' / 'even.png').write_bytes(png(rows(RGB)))
  with pytest.raises(UserError) as error:
    folder.read(path)
  one_line(error, path, 'cannot be read')
  for crop in (0, 8):
    with pytest.raises(UserError) as error:
      everything(sets.load(config('folder', tmp_path, crop=crop), 'train'))
    one_line(error, path, 'cannot be read')


def test_files_are_checked_once(tmp_path, monkeypatch):
  for name in 'ab':
    (tmp_path / f'{name}.png').write_bytes(png(rows(RGB)))
  images, seen = sets.load(config('folder', tmp_path), 'train'), []
  monkeypatch.setattr(folder.decoding, 'check_whole', lambda image, source: seen.append(source))
  for _ in range(3):
    everything(images)
  assert len(seen) == 1


BROKEN = """
import io, warnings
from PIL import Image
from conv_draw.data import folder
exif = b'Exif\\0\\0II*\\0\\x08\\0\\0\\0\\x05\\0\\x12\\x01'
for format_ in ('JPEG', 'WEBP', 'AVIF', 'PNG'):
  out = io.BytesIO()
  Image.new('RGB', (16, 8)).save(out, format_, exif=Image.Exif() if format_ == 'AVIF' else exif)
  pixels, others = folder.read(io.BytesIO(out.getvalue()))
  assert pixels.shape == (8, 16, 3) and others == ([] if format_ == 'AVIF' else ['EXIF']), others
print('read')
"""


def test_broken_exif_is_named_and_pillows_words_are_not_heard():
  for strict in ((), ('-W', 'error')):
    done = subprocess.run(
        [sys.executable, *strict, '-c', BROKEN], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('read\n', '')

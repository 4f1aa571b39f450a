import numpy as np
import pytest
from PIL import Image

from conv_draw.codec import image_files
from conv_draw.errors import UserError

EXACT = ('.png', '.bmp', '.tif', '.tiff', '.ppm', '.pnm', '.pgm', '.webp', '.jp2', '.j2k')
LOSSY = ('.jpg', '.jpeg', '.avif')


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('extension', image_files.FORMATS)
def test_every_format_holds_the_smallest_and_the_widest(extension, channels):
  """And what is exact is so."""
  assert set(EXACT + LOSSY) == set(image_files.FORMATS)
  format_ = image_files.format_of(f'a{extension.upper()}')
  if channels not in format_.channels:
    with pytest.raises(UserError, match='grey'):
      image_files.check_holds('a', format_, 8, 8, channels)
    return
  # Wide ones in grey alone: AVIF takes seconds.
  for size in ((1, 1), (5, 8), (1, format_.max_side))[: 3 if channels == 1 else 2]:
    image_files.check_holds('a', format_, *size[::-1], channels)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels)).astype(np.uint8)
    _, exact = image_files.to_bytes('a', pixels, format_)
    assert exact or extension in LOSSY


@pytest.mark.parametrize('extension', ['.jpg', '.webp', '.avif'])
def test_one_pixel_more_is_refused_where_it_would_fail(extension):
  format_ = image_files.format_of(f'a{extension}')
  side = format_.max_side + 1
  with pytest.raises(UserError, match=f'a would be {side}x1'):
    image_files.check_holds('a', format_, side, 1, 3)
  with pytest.raises(UserError, match=f'a cannot be written as {format_.name}') as error:
    image_files.to_bytes('a', np.zeros((1, side, 3), np.uint8), format_)
  assert '\n' not in str(error.value)


def test_messages_call_a_file_by_its_name(tmp_path):
  path = tmp_path / 'a.png'
  for write, words in (
      (lambda: path.write_bytes(b'none'), f'{path} cannot be read as an image'),
      (lambda: Image.new('RGBA', (2, 2)).save(path), f'{path} has an alpha channel')):
    write()
    with pytest.raises(UserError, match=words) as error:
      image_files.read(path)
    assert 'object at' not in str(error.value)
  with pytest.raises(UserError, match='none.png does not exist: name an image'):
    image_files.read(tmp_path / 'none.png')


def test_what_pillow_decodes_is_an_image():
  found = image_files.extensions()
  assert found[0] == '.png' and {'.gif', '.tga', *image_files.FORMATS} <= set(found)
  assert not {'.pdf', '.h5', '.mpg', '.cdraw'} & set(found)

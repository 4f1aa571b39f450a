"""Folders of images: splits, sizes, and one-line errors that name the odd file."""

import hashlib
import io
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from conv_draw.data import folder, sets
from conv_draw.errors import Preempted, UserError
from tests.data.data_sets import config, digests, everything, one_line


def save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_folder_holds_out_by_name(tmp_path):
  for i in range(20):
    save(tmp_path / 'a' / f'sub{i % 3}' / f'{i}.png', noise(8, 10, 3, seed=i))
  (tmp_path / 'a' / 'notes.txt').write_text('not an image')
  (tmp_path / 'a' / '._0.png').write_bytes(b'macOS')
  train, test = (sets.load(config('folder', tmp_path / 'a', hold_out=0.25), split)
                 for split in ('train', 'test'))
  assert (len(train), len(test)) == (15, 5)
  assert train.shape == (8, 10, 3) and train.grey_levels == 256
  assert len(digests(train) | digests(test)) == 20
  expected = {hashlib.sha256(noise(8, 10, 3, seed=i).tobytes()).digest() for i in range(20)}
  held_out = everything(test)
  assert digests(train) | digests(test) == expected  # Pixels are exact.
  (tmp_path / 'a').rename(tmp_path / 'b')  # Where it lies does not matter.
  moved = sets.load(config('folder', tmp_path / 'b', hold_out=0.25), 'test')
  np.testing.assert_array_equal(everything(moved), held_out)


def test_folder_with_train_and_test_subdirectories(tmp_path):
  save(tmp_path / 'train' / 'a.png', noise(8, 8))
  save(tmp_path / 'train' / 'b.BMP', noise(8, 8, seed=1))
  save(tmp_path / 'test' / 'a.tif', noise(8, 8, seed=2))
  train, test = (sets.load(config('folder', tmp_path), split) for split in ('train', 'test'))
  assert train.shape == test.shape == (8, 8, 1)  # All grey.
  np.testing.assert_array_equal(everything(train)[..., 0],
                                [noise(8, 8), noise(8, 8, seed=1)])
  np.testing.assert_array_equal(everything(test)[0, ..., 0], noise(8, 8, seed=2))
  save(tmp_path / 'test' / 'b.png', noise(8, 8, 3))  # One colour image makes all colour.
  train = sets.load(config('folder', tmp_path), 'train')
  np.testing.assert_array_equal(everything(train)[0], noise(8, 8)[..., None].repeat(3, -1))
  for path in (tmp_path / 'test').iterdir():
    path.unlink()
  with pytest.raises(UserError) as error:
    sets.load(config('folder', tmp_path), 'train')
  one_line(error, tmp_path / 'test', 'no images')


def test_folder_shrinks_to_a_centred_square(tmp_path):
  # 40 x 16 to 8 x 8: the middle 16 columns, each 2 x 2 block averaged.
  wide = noise(16, 40, 3)
  save(tmp_path / 'train' / 'wide.png', wide)
  save(tmp_path / 'train' / 'exact.png', noise(8, 8, 3, seed=1))
  save(tmp_path / 'test' / 'tall.png', wide.transpose(1, 0, 2))
  train, test = (sets.load(config('folder', tmp_path, image_size=8), split)
                 for split in ('train', 'test'))
  assert train.shape == (8, 8, 3)
  blocks = wide[:, 12:28].reshape(8, 2, 8, 2, 3).mean((1, 3))
  exact, shrunk = everything(train)
  np.testing.assert_array_equal(exact, noise(8, 8, 3, seed=1))
  np.testing.assert_allclose(shrunk, blocks, atol=1)
  np.testing.assert_allclose(everything(test)[0], blocks.transpose(1, 0, 2), atol=1)


def test_crops_are_squares_of_images_of_any_size(tmp_path):
  wide, tall = noise(9, 30, 3), noise(21, 8, 3, seed=1)
  save(tmp_path / 'train' / 'a.png', wide)
  save(tmp_path / 'train' / 'b.png', tall)
  save(tmp_path / 'test' / 'c.png', wide)
  train, test = (
      sets.load(config('folder', tmp_path, crop=8), split) for split in ('train', 'test'))
  assert train.shape == (8, 8, 3) and train.crops and 'crops' in train.name
  corners = np.array([[0, 0], [1 - 1e-9, 1 - 1e-9]])
  np.testing.assert_array_equal(
      train.fetch(np.array([0, 1]), corners), [wide[:8, :8], tall[13:, :8]])
  np.testing.assert_array_equal(everything(test)[0], wide[1:, 11:19])
  with pytest.raises(UserError) as error:
    sets.load(config('folder', tmp_path, crop=9), 'train')
  one_line(error, 'b.png', '8x21', 'data.crop')
  with pytest.raises(UserError) as error:
    sets.load(config('folder', tmp_path, crop=8, image_size=8), 'train')
  one_line(error, 'data.crop', 'data.image_size')
  with pytest.raises(UserError) as error:
    sets.load(config('digits', crop=4), 'train')
  one_line(error, 'digits', 'data.crop')


def test_folder_turns_photographs_upright(tmp_path):
  pixels = np.zeros((8, 16, 3), np.uint8)
  pixels[:, 8:] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # Turn by 90 degrees clockwise to see it upright.
  save(tmp_path / 'a.jpg', pixels, exif=exif, quality=95)
  save(tmp_path / 'b.jpg', np.rot90(pixels, -1).copy(), quality=95)
  for split in ('train', 'test'):
    images = sets.load(config('folder', tmp_path), split)
    assert images.shape == (16, 8, 3)
    np.testing.assert_allclose(everything(images)[0], np.rot90(pixels, -1), atol=3)


def turned(kind, orientation):
  """An image file of 9x7 pixels, as bytes, whose metadata say how it is turned."""
  exif, out = Image.Exif(), io.BytesIO()
  exif[0x0112] = orientation
  image = Image.fromarray(noise(7, 9, 3))
  xmp = f'<tiff:Orientation>{orientation}</tiff:Orientation>'.encode()
  if kind in ('PNG behind', 'PNG profile', 'PNG XMP'):
    image.save(out, 'PNG')
    data, end = out.getvalue()[:-12], out.getvalue()[-12:]
    if kind == 'PNG behind':  # As exiftool writes it, behind the pixels.
      return data + chunk(b'eXIf', exif.tobytes()[6:]) + end
    if kind == 'PNG XMP':
      return data + chunk(b'iTXt', b'XML:com.adobe.xmp' + bytes(5) + xmp) + end
    profile = exif.tobytes()
    text = f'\nexif\n{len(profile):8}\n{profile.hex()}\n'.encode()  # As ImageMagick has it.
    return data[:33] + chunk(
        b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(text)) + data[33:] + end
  if kind == 'TIFF XMP':
    image.save(out, 'TIFF', tiffinfo={700: xmp})
  elif kind == 'TIFF packed':
    image.save(out, 'TIFF', exif=exif, compression='tiff_lzw')
  else:
    image.save(out, kind, exif=exif, **{
        'WEBP': dict(lossless=True), 'JPEG': dict(quality=100, subsampling=0),
        'AVIF': dict(quality=100, subsampling='4:4:4')}.get(kind, {}))
  return out.getvalue()


@pytest.mark.parametrize('kind, error', [
    ('PNG', 0), ('PNG behind', 0), ('PNG profile', 0), ('PNG XMP', 0), ('TIFF', 0),
    ('TIFF packed', 0), ('TIFF XMP', 0), ('WEBP', 0), ('JPEG', 8), ('AVIF', 8)])
def test_every_orientation_is_applied_once(tmp_path, kind, error):
  """EXIF's eight, and a ninth that means nothing."""
  pixels = noise(7, 9, 3)
  upright = {
      1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1],
      5: pixels.transpose(1, 0, 2), 6: np.rot90(pixels, -1), 7: pixels[::-1, ::-1].transpose(
          1, 0, 2), 8: np.rot90(pixels), 9: pixels}
  for orientation, expected in upright.items():
    if orientation == 9 and kind in ('AVIF', 'TIFF packed'):  # Cannot be written.
      continue
    path = tmp_path / f'{orientation}.{kind.split()[0].lower()}'
    path.write_bytes(turned(kind, orientation))
    found, _ = folder.read(path)
    assert found.shape == expected.shape, orientation
    assert abs(found.astype(int) - expected).max() <= error, orientation
    assert folder._header(path, 0)[1] == expected.shape[1::-1]


def chunk(name, body):
  """One chunk of a PNG file."""
  return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))


def bad_folder(tmp_path, kind):
  """Adds what is wrong to a good folder; returns the words its error must say."""
  path = tmp_path / 'odd.png'
  if kind == 'size':
    save(path, noise(9, 8, 3))
    return path, '8x9', '8x8', 'image_size'
  if kind == 'alpha':
    save(path, noise(8, 8, 4))
    return path, 'alpha'
  if kind == 'transparent colour':
    save(path, noise(8, 8, 3), transparency=(1, 2, 3))
    return path, 'transparent'
  if kind == '16-bit grey':
    save(path, noise(8, 8).astype(np.uint16) * 257)
    return path, '8 bits'
  if kind == '16-bit colour':  # PIL cannot write one.
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 8, 8, 16, 2,
                                                                       0, 0, 0))
                     + chunk(b'IDAT', zlib.compress((b'\0' + bytes(48)) * 8)) + chunk(b'IEND', b''))
    return path, '8 bits'
  if kind == 'not an image':
    path.write_bytes(b'hello')
    return path, 'cannot be read'
  if kind == 'empty':
    path.write_bytes(b'')
    return path, 'cannot be read'
  raise ValueError(kind)


@pytest.mark.parametrize('kind', ['size', 'alpha', 'transparent colour', '16-bit grey',
                                  '16-bit colour', 'not an image', 'empty'])
def test_folder_names_the_odd_file(tmp_path, kind):
  for i in range(3):
    save(tmp_path / f'{i}.png', noise(8, 8, 3, seed=i))
  words = bad_folder(tmp_path, kind)
  for split in ('train', 'test'):  # Whichever split the file is in.
    with pytest.raises(UserError) as error:
      sets.load(config('folder', tmp_path), split)
    one_line(error, *words)


def test_folder_names_a_truncated_file_when_it_is_read(tmp_path):
  for split in ('train', 'test'):
    save(tmp_path / split / 'a.png', noise(32, 32, 3))
  path = tmp_path / 'train' / 'a.png'
  path.write_bytes(path.read_bytes()[:1000])
  images = sets.load(config('folder', tmp_path), 'train')
  with pytest.raises(UserError) as error:
    everything(images)
  one_line(error, path, 'cannot be read')


def test_folder_option_errors(tmp_path):
  for data_dir in ('', tmp_path / 'missing'):
    with pytest.raises(UserError) as error:
      sets.load(config('folder', data_dir), 'train')
    one_line(error, data_dir, 'data.data_dir')
  with pytest.raises(UserError) as error:
    sets.load(config('folder', tmp_path), 'train')
  one_line(error, tmp_path, '0 images')
  for name in ('a.png', 'b.png'):
    save(tmp_path / name, noise(8, 8, 3))
  for hold_out in (0.0, 1.0, -1.0):
    with pytest.raises(UserError) as error:
      sets.load(config('folder', tmp_path, hold_out=hold_out), 'train')
    one_line(error, hold_out, 'data.hold_out')
  with pytest.raises(UserError) as error:
    sets.load(config('folder', tmp_path, image_size=16), 'train')
  one_line(error, '.png', '8x8', 'image_size')
  with pytest.raises(UserError) as error:
    sets.load(config('folder', tmp_path, image_size=-1), 'train')
  one_line(error, '-1', 'image_size')


def test_what_is_no_regular_file_is_left_out_and_named(tmp_path):
  """A pipe would be waited for, and a device read, for ever."""
  for i in range(4):
    save(tmp_path / 'images' / f'{i}.png', noise(8, 8, 3, seed=i))
  before = sets.load(config('folder', tmp_path / 'images'), 'train')
  assert before.left_out == ''
  os.mkfifo(tmp_path / 'images' / 'pipe.png')
  (tmp_path / 'images' / 'more').mkdir()
  (tmp_path / 'images' / 'more' / 'device.jpg').symlink_to('/dev/zero')
  with socket.socket(socket.AF_UNIX) as s:
    s.bind(str(tmp_path / 'images' / 'socket.bmp'))
  for split in ('train', 'test'):
    images = sets.load(config('folder', tmp_path / 'images'), split)
    assert '\n' not in images.left_out
    for name in ('pipe.png', 'device.jpg', 'socket.bmp'):
      assert name in images.left_out
  np.testing.assert_array_equal(everything(before), everything(
      sets.load(config('folder', tmp_path / 'images'), 'train')))
  (tmp_path / 'images' / 'link.png').symlink_to(tmp_path / 'images' / '0.png')  # to an image: one
  (tmp_path / 'images' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
  with pytest.raises(UserError) as error:
    sets.load(config('folder', tmp_path / 'images'), 'train')
  one_line(error, 'gone.png')


def test_sigterm_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
  for i in range(2):
    save(tmp_path / f'{i}.png', noise(8, 8, 3))

  def told(*arguments, **options):
    raise Preempted('told to leave')

  monkeypatch.setattr(Image, 'open', told)
  with pytest.raises(Preempted):
    sets.load(config('folder', tmp_path), 'train')

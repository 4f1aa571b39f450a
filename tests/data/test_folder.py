"""Folders of images: splits, sizes, crops, orientation, and errors that name the file."""

import io
import os
import socket
import zlib

import numpy as np
import pytest
from PIL import Image

from conv_draw.data import folder, sets
from conv_draw.errors import Preempted
from tests.data.data_sets import config, digests, everything, refused
from tests.data.image_files import chunk, png, saved


def save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def fill(directory, count):
  for i in range(count):
    save(directory / f'{i}.png', noise(8, 8, 3, seed=i))


def load(directory, split='train', **changes):
  return sets.load(config('folder', directory, **changes), split)


def test_files_are_held_out_by_name(tmp_path):
  for i in range(20):
    save(tmp_path / 'a' / f'sub{i % 3}' / f'{i}.png', noise(8, 10, 3, seed=i))
  (tmp_path / 'a' / 'notes.txt').write_text('not an image')
  (tmp_path / 'a' / '._0.png').write_bytes(b'macOS')
  train, test = (load(tmp_path / 'a', split, hold_out=0.25) for split in ('train', 'test'))
  assert (len(train), len(test)) == (15, 5)
  assert train.shape == (8, 10, 3) and train.grey_levels == 256
  original = [noise(8, 10, 3, seed=i).tobytes() for i in range(20)]
  assert sorted(x.tobytes() for images in (train, test) for x in everything(images)) == sorted(
      original)
  held_out = everything(test)
  (tmp_path / 'a').rename(tmp_path / 'b')  # the location does not matter
  np.testing.assert_array_equal(everything(load(tmp_path / 'b', 'test', hold_out=0.25)), held_out)


def test_subdirectories_train_and_test_are_the_splits(tmp_path):
  save(tmp_path / 'train' / 'a.png', noise(8, 8))
  save(tmp_path / 'train' / 'b.BMP', noise(8, 8, seed=1))
  save(tmp_path / 'test' / 'a.tif', noise(8, 8, seed=2))
  train, test = (load(tmp_path, split) for split in ('train', 'test'))
  assert train.shape == test.shape == (8, 8, 1)  # all are grey
  np.testing.assert_array_equal(everything(train)[..., 0], [noise(8, 8), noise(8, 8, seed=1)])
  np.testing.assert_array_equal(everything(test)[0, ..., 0], noise(8, 8, seed=2))
  save(tmp_path / 'test' / 'b.png', noise(8, 8, 3))  # one colour image makes all colour
  np.testing.assert_array_equal(
      everything(load(tmp_path))[0], noise(8, 8)[..., None].repeat(3, -1))
  for path in (tmp_path / 'test').iterdir():
    path.unlink()
  with refused(tmp_path / 'test', 'no images'):
    load(tmp_path)


def test_images_are_shrunk_to_a_central_square(tmp_path):
  # 40 x 16 to 8 x 8: the middle 16 columns, averaged over blocks of 2 x 2.
  wide = noise(16, 40, 3)
  save(tmp_path / 'train' / 'wide.png', wide)
  save(tmp_path / 'train' / 'exact.png', noise(8, 8, 3, seed=1))
  save(tmp_path / 'test' / 'tall.png', wide.transpose(1, 0, 2))
  train, test = (load(tmp_path, split, image_size=8) for split in ('train', 'test'))
  blocks = wide[:, 12:28].reshape(8, 2, 8, 2, 3).mean((1, 3))
  exact, shrunk = everything(train)
  np.testing.assert_array_equal(exact, noise(8, 8, 3, seed=1))
  np.testing.assert_allclose(shrunk, blocks, atol=1)
  np.testing.assert_allclose(everything(test)[0], blocks.transpose(1, 0, 2), atol=1)


def test_crops_are_squares_of_images_of_any_size(tmp_path, monkeypatch):
  wide, tall = noise(9, 30, 3), noise(21, 8, 3, seed=1)
  save(tmp_path / 'train' / 'a.png', wide)
  save(tmp_path / 'train' / 'b.png', tall)
  save(tmp_path / 'test' / 'c.png', wide)
  for cache_size in (folder.CACHE_SIZE, 0):
    monkeypatch.setattr(folder, 'CACHE_SIZE', cache_size)
    train, test = (load(tmp_path, split, crop=8) for split in ('train', 'test'))
    assert train.shape == (8, 8, 3) and train.crops and 'crops' in train.name
    corners = np.array([[0, 0], [1 - 1e-9, 1 - 1e-9]])
    np.testing.assert_array_equal(
        train.fetch(np.array([0, 1]), corners), [wide[:8, :8], tall[13:, :8]])
    np.testing.assert_array_equal(
        train.fetch(np.array([0]), np.array([[0, 0.5]])), [wide[:8, 11:19]])
    np.testing.assert_array_equal(everything(test)[0], wide[1:, 11:19])


def rotated(kind, orientation):
  """An image file of 9x7 pixels, as bytes, whose metadata hold an orientation."""
  exif, pixels = Image.Exif(), noise(7, 9, 3)
  exif[0x0112] = orientation
  xmp = f'<tiff:Orientation>{orientation}</tiff:Orientation>'.encode()
  if kind.startswith('PNG '):
    data = saved('PNG', pixels)
    data, end = data[:-12], data[-12:]
    if kind == 'PNG behind':  # behind the pixels, as exiftool writes it
      return data + chunk(b'eXIf', exif.tobytes()[6:]) + end
    if kind == 'PNG XMP':
      return data + chunk(b'iTXt', b'XML:com.adobe.xmp' + bytes(5) + xmp) + end
    profile = exif.tobytes()
    text = f'\nexif\n{len(profile):8}\n{profile.hex()}\n'.encode()  # as ImageMagick writes it
    return data[:33] + chunk(
        b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(text)) + data[33:] + end
  if kind == 'TIFF XMP':
    return saved('TIFF', pixels, tiffinfo={700: xmp})
  if kind == 'TIFF packed':
    return saved('TIFF', pixels, exif=exif, compression='tiff_lzw')
  return saved(kind, pixels, exif=exif, **{
      'WEBP': dict(lossless=True), 'JPEG': dict(quality=100, subsampling=0),
      'AVIF': dict(quality=100, subsampling='4:4:4')}.get(kind, {}))


@pytest.mark.parametrize('kind, error', [
    ('PNG', 0), ('PNG behind', 0), ('PNG profile', 0), ('PNG XMP', 0), ('TIFF', 0),
    ('TIFF packed', 0), ('TIFF XMP', 0), ('WEBP', 0), ('JPEG', 8), ('AVIF', 8)])
def test_every_orientation_is_applied_once(kind, error):
  """EXIF's eight, and an undefined ninth."""
  x = noise(7, 9, 3)
  transposed = x.transpose(1, 0, 2)
  upright = (x, x[:, ::-1], x[::-1, ::-1], x[::-1], transposed, np.rot90(x, -1),
             transposed[::-1, ::-1], np.rot90(x), x)
  for orientation, expected in enumerate(upright, 1):
    if orientation == 9 and kind in ('AVIF', 'TIFF packed'):  # Pillow does not write it
      continue
    found, _ = folder.read(io.BytesIO(rotated(kind, orientation)))
    assert found.shape == expected.shape, orientation
    assert abs(found.astype(int) - expected).max() <= error, orientation


@pytest.mark.parametrize('data, words', [
    (saved('PNG', noise(9, 8, 3)), ('8x9', '8x8', 'image_size')),
    (saved('PNG', noise(8, 8, 4)), ['alpha']),
    (saved('PNG', noise(8, 8, 3), transparency=(1, 2, 3)), ['transparent']),
    (saved('PNG', noise(8, 8).astype(np.uint16) * 257), ['8 bits']),
    (png(bytes(49 * 8), bits=16, size=(8, 8)), ['8 bits']),
    (b'hello', ['cannot be read']), (b'', ['cannot be read'])])
def test_odd_file_is_named_whichever_split_it_is_in(tmp_path, data, words):
  fill(tmp_path, 3)
  (tmp_path / 'odd.png').write_bytes(data)
  for split in ('train', 'test'):
    with refused(tmp_path / 'odd.png', *words):
      load(tmp_path, split)


def test_options_that_a_folder_does_not_allow_are_refused(tmp_path):
  with refused(tmp_path / 'missing', 'data.data_dir'):
    load(tmp_path / 'missing')
  with refused(tmp_path, '0 images'):
    load(tmp_path)
  fill(tmp_path, 2)
  for words, changes in (
      (('0.0', 'data.hold_out'), dict(hold_out=0.0)),
      (('.png', '8x8', 'data.image_size'), dict(image_size=16)),
      (('.png', '8x8', 'data.crop'), dict(crop=9)),
      (('data.crop', 'data.image_size'), dict(crop=8, image_size=8))):
    with refused(*words):
      load(tmp_path, **changes)


def test_files_that_are_not_regular_are_left_out_and_named(tmp_path):
  """Reading a pipe or a device might not end."""
  directory = tmp_path / 'images'
  fill(directory, 4)
  before = load(directory)
  assert (len(before), len(load(directory, 'test')), before.left_out) == (3, 1, '')
  os.mkfifo(directory / 'pipe.png')
  (directory / 'more').mkdir()
  (directory / 'more' / 'device.jpg').symlink_to('/dev/zero')
  with socket.socket(socket.AF_UNIX) as s:
    s.bind(str(directory / 'socket.bmp'))
  after = load(directory)
  assert all(name in after.left_out for name in ('pipe.png', 'device.jpg', 'socket.bmp'))
  np.testing.assert_array_equal(everything(before), everything(after))
  (directory / 'link.png').symlink_to(directory / '0.png')
  assert len(digests(load(directory)) | digests(load(directory, 'test'))) == 4
  (directory / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
  with refused('gone.png'):
    load(directory)


def test_sigterm_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
  fill(tmp_path, 2)

  def preempted(*arguments, **options):
    raise Preempted('told to leave')

  monkeypatch.setattr(Image, 'open', preempted)
  with pytest.raises(Preempted):
    load(tmp_path)

"""Preparing ImageNet: what is read back is what the archives held; damage leaves nothing behind."""

import gzip
import io
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from conv_draw.data import prepare_imagenet, sets
from conv_draw.errors import UserError
from tests.data.data_sets import config, everything, one_line
from tests.program import ROOT


def png(pixels, **options):
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, 'PNG', **options)
  return out.getvalue()


def half_png():
  """32x32 pixels, of which the data have the upper half."""
  data = bytearray(png(np.ones((16, 32, 3), np.uint8)))
  data[20:24] = struct.pack('>I', 32)
  data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
  return bytes(data)


def write_archive(path, files):
  """Writes {name: bytes} as a tar."""
  with tarfile.open(path, 'w') as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def archives(tmp_path):
  """A directory of two archives, and the pixels in them."""
  rng = np.random.default_rng(0)
  directory = tmp_path / 'archives'
  directory.mkdir()
  pixels = {}
  for split, count in (('train', 7), ('valid', 3)):
    pixels[split] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    write_archive(directory / f'{split}_32x32.tar', {
        f'{split}_32x32/{i:04d}.png': png(image) for i, image in enumerate(pixels[split])
    } | {f'{split}_32x32/._0001.png': b'macOS', 'README': b'text'})
  return directory, pixels


def prepare(directory, data_dir, size=32):
  return prepare_imagenet.prepare(str(directory), size, str(data_dir))


def test_imagenet_round_trip(archives, tmp_path, monkeypatch):
  import tensorflow_datasets as tfds
  directory, pixels = archives
  monkeypatch.setattr(prepare_imagenet, 'IMAGES_PER_SHARD', 3)  # 3 + 3 + 1
  assert prepare(directory, tmp_path / 'data') == {'train': 7, 'validation': 3}
  assert [p.name for p in (tmp_path / 'data').iterdir()] == ['downsampled_imagenet']
  for split, archive in (('train', 'train'), ('test', 'valid')):
    images = sets.load(config('imagenet32', tmp_path / 'data'), split)
    assert images.shape == (32, 32, 3) and images.grey_levels == 256
    assert images.name == f'downsampled_imagenet/32x32 2.0.0, {split}'
    np.testing.assert_array_equal(everything(images), pixels[archive])
    np.testing.assert_array_equal(images.fetch(np.array([2, 0, 2])), pixels[archive][[2, 0, 2]])
  # Another process opens the files for itself.
  sent = pickle.dumps(images.fetch)
  assert len(sent) < 1000 and images.on_disk
  np.testing.assert_array_equal(pickle.loads(sent)(np.arange(3)), pixels['valid'])
  # The plain TFDS way to the same files.
  source = tfds.data_source('downsampled_imagenet/32x32:2.0.0', split='validation',
                            data_dir=tmp_path / 'data')
  np.testing.assert_array_equal([r['image'] for r in source], pixels['valid'])
  assert 'tensorflow' not in sys.modules
  # Never overwritten.
  with pytest.raises(UserError) as error:
    prepare(directory, tmp_path / 'data')
  one_line(error, 'exists')
  # Damage to a shard is told in one line.
  shard = sorted((tmp_path / 'data').rglob('*train.array_record*'))[1]
  shard.unlink()
  with pytest.raises(UserError) as error:
    everything(sets.load(config('imagenet32', tmp_path / 'data'), 'train'))
  one_line(error, 'damaged', 'downsampled_imagenet')


def test_imagenet_grey_and_palette_images_become_rgb(archives, tmp_path):
  directory, _ = archives
  grey = np.arange(1024, dtype=np.uint32).astype(np.uint8).reshape(32, 32)
  write_archive(directory / 'valid_32x32.tar', {'a.png': png(grey)})
  prepare(directory, tmp_path / 'data')
  images = sets.load(config('imagenet32', tmp_path / 'data'), 'test')
  np.testing.assert_array_equal(everything(images)[0], grey[..., None].repeat(3, -1))


@pytest.mark.parametrize('content, word', [
    ({'a.png': png(np.zeros((32, 31, 3), np.uint8))}, '31x32'),
    ({'a.png': png(np.zeros((32, 32, 4), np.uint8))}, 'transparent'),
    ({'a.png': png(np.zeros((32, 32), np.uint16))}, '16-bit'),
    ({'a.png': png(np.ones((32, 32, 3), np.uint8))[:60]}, 'a.png'),
    ({'a.png': half_png()}, 'a.png'),
    ({'a.png': b'not a picture'}, 'a.png'),
    ({'a.txt': b'no picture'}, 'no PNG'),
    (b'not a tar archive' * 100, 'tar'),
    (b'', 'tar'),
    ('truncated', 'tar'),
    (None, 'valid_32x32.tar'),
])
def test_bad_imagenet_archives_leave_nothing_behind(archives, tmp_path, content, word):
  path = archives[0] / 'valid_32x32.tar'
  if content is None:
    path.unlink()
  elif content == 'truncated':
    path.write_bytes(path.read_bytes()[:5000])
  elif isinstance(content, bytes):
    path.write_bytes(content)
  else:
    write_archive(path, content)
  with pytest.raises(UserError) as error:
    prepare(archives[0], tmp_path / 'data')
  one_line(error, word, 'valid_32x32.tar')
  assert not [p for p in (tmp_path / 'data').rglob('*')]


def test_every_cut_of_an_archive_is_found(tmp_path):
  """Also where a file ends, and of a compressed one; and a header that is damaged."""
  path = tmp_path / 'a.tar'
  files = {f'{i}.png': png(np.full((32, 32, 3), i, np.uint8)) for i in range(3)}

  def names():
    return len(list(prepare_imagenet._images(str(path), 32)))

  write_archive(path, files)
  whole = path.read_bytes()
  last = len(whole.rstrip(b'\0'))
  end = -(-last // 512) * 512  # where the zeros of the end begin, in whole blocks
  path.write_bytes(whole[: end + 1024])  # no more than the two blocks
  assert names() == 3
  places = {*range(0, end, 512), *range(1, end, 509), *range(end, end + 1024, 37), end + 1023}
  for content in (
      *(whole[:n] for n in sorted(places)),
      whole[: end + 512] + whole[:512],  # a lone block of zeros
      whole[:1024] + bytes(512) + whole[1536:],  # in a picture
      whole + whole,
      bytes(1024) + whole,
      whole.replace(b'1.png', b'7.png')):  # its header's checksum is wrong now
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
      names()
    one_line(error, path, 'get')
  path.write_bytes(gzip.compress(whole))
  assert names() == 3
  path.write_bytes(gzip.compress(whole[:end]))
  with pytest.raises(UserError, match='cut'):
    names()


def test_full_disk_leaves_nothing_behind(archives, tmp_path, monkeypatch):
  from array_record.python import array_record_module

  class FullDisk:

    def __init__(self, path, options):
      open(path, 'wb').close()

    def write(self, record):
      raise RuntimeError('write() failed: No space left on device\nat byte 1')

    def close(self):
      self.write(None)

  monkeypatch.setattr(array_record_module, 'ArrayRecordWriter', FullDisk)
  with pytest.raises(UserError) as error:
    prepare(archives[0], tmp_path / 'data')
  one_line(error, 'No space left', '--data_dir')
  assert not [p for p in (tmp_path / 'data').rglob('*')]


def test_the_command_says_what_it_made_and_what_is_wrong(archives, tmp_path):
  def call(*arguments):
    done = subprocess.run(
        [sys.executable, '-m', 'conv_draw.prepare_imagenet', *arguments], cwd=ROOT, text=True,
        capture_output=True, timeout=100)
    return done.returncode, done.stdout, done.stderr

  given = [f'--archives={archives[0]}', f'--data_dir={tmp_path}/data']
  for arguments, word in (
      (given, '--size'), ([*given, '--size=16'], 'size'), ([*given, '--size=64'], 'train_64x64')):
    status, out, error = call(*arguments)
    assert (status, out, error.count('\n')) == (2, '', 1) and word in error, error
  status, out, error = call(*given, '--size=32')
  assert status == 0 and 'train: 7 images (the published set has 1,281,149)' in out, error

"""Preparing ImageNet: the images read back are those of the archives; errors leave no files."""

import gzip
import io
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from conv_draw.data import prepare_imagenet, sets
from tests.data import image_files
from tests.data.data_sets import config, everything, refused
from tests.program import ROOT


def png(pixels):
  return image_files.saved('PNG', pixels)


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
  # Another process opens the files itself.
  sent = pickle.dumps(images.fetch)
  assert len(sent) < 1000 and images.on_disk
  np.testing.assert_array_equal(pickle.loads(sent)(np.arange(3)), pixels['valid'])
  # The plain TFDS way to the same files.
  source = tfds.data_source('downsampled_imagenet/32x32:2.0.0', split='validation',
                            data_dir=tmp_path / 'data')
  np.testing.assert_array_equal([r['image'] for r in source], pixels['valid'])
  assert 'tensorflow' not in sys.modules
  with refused('exists'):
    prepare(directory, tmp_path / 'data')
  sorted((tmp_path / 'data').rglob('*train.array_record*'))[1].unlink()
  with refused('damaged', 'downsampled_imagenet'):
    everything(sets.load(config('imagenet32', tmp_path / 'data'), 'train'))


def test_grey_images_become_rgb(archives, tmp_path):
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
    ({'a.png': image_files.png(bytes(97 * 16), size=(32, 32))}, 'a.png'),  # half of the rows
    ({'a.png': b'not a picture'}, 'a.png'),
    ({'a.txt': b'no picture'}, 'no PNG'),
    (b'not a tar archive' * 100, 'tar'),
    (None, 'valid_32x32.tar')])
def test_bad_imagenet_archives_leave_nothing_behind(archives, tmp_path, content, word):
  path = archives[0] / 'valid_32x32.tar'
  if content is None:
    path.unlink()
  elif isinstance(content, bytes):
    path.write_bytes(content)
  else:
    write_archive(path, content)
  with refused(word, 'valid_32x32.tar'):
    prepare(archives[0], tmp_path / 'data')
  assert not list((tmp_path / 'data').rglob('*'))


def test_every_cut_of_an_archive_is_found(tmp_path):
  """At the end of a member too, and in a compressed archive; and a damaged header."""
  path = tmp_path / 'a.tar'
  files = {f'{i}.png': png(np.full((32, 32, 3), i, np.uint8)) for i in range(3)}

  def names():
    return len(list(prepare_imagenet._images(str(path), 32)))

  write_archive(path, files)
  whole = path.read_bytes()
  last = len(whole.rstrip(b'\0'))
  end = -(-last // 512) * 512  # of the last member: blocks of zeros follow
  path.write_bytes(whole[: end + 1024])  # two blocks suffice
  assert names() == 3
  places = {*range(0, end, 512), *range(1, end, 509), *range(end, end + 1024, 37), end + 1023}
  for content in (
      *(whole[:n] for n in sorted(places)),
      whole[: end + 512] + whole[:512],  # one block of zeros
      whole[:1024] + bytes(512) + whole[1536:],  # inside an image
      whole + whole,
      bytes(1024) + whole,
      whole.replace(b'1.png', b'7.png')):  # a header's checksum is wrong
    path.write_bytes(content)
    with refused(path, 'get'):
      names()
  path.write_bytes(gzip.compress(whole))
  assert names() == 3
  path.write_bytes(gzip.compress(whole[:end]))
  with refused('cut'):
    names()


def test_full_disk_leaves_nothing_behind(archives, tmp_path, monkeypatch):
  from array_record.python import array_record_module

  def full_disk(path, options):
    raise RuntimeError('write() failed: No space left on device\nat byte 1')

  monkeypatch.setattr(array_record_module, 'ArrayRecordWriter', full_disk)
  with refused('No space left', '--data_dir'):
    prepare(archives[0], tmp_path / 'data')
  assert not list((tmp_path / 'data').rglob('*'))


def test_command_prints_counts_and_errors(archives, tmp_path):
  def call(size):
    done = subprocess.run(
        [sys.executable, '-m', 'conv_draw.prepare_imagenet', f'--archives={archives[0]}',
         f'--data_dir={tmp_path}/data', f'--size={size}'], cwd=ROOT, text=True,
        capture_output=True, timeout=100)
    return done.returncode, done.stdout, done.stderr

  status, out, error = call(64)
  assert (status, out, error.count('\n')) == (2, '', 1) and 'train_64x64' in error, error
  status, out, error = call(32)
  assert status == 0 and 'train: 7 images (the published set has 1,281,149)' in out, error

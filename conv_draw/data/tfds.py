"""The data sets of TFDS, read from prepared array_record files without TensorFlow."""

import functools
import hashlib
import io
import json
import os
import re

import numpy as np

from conv_draw.errors import UserError, reason

DRAWERS_TRAIN = 15  # of the 20 drawings of each Omniglot character

# Reading ----------------------------------------------------------------------------------------


def _prepared(data_dir, name, remedy):
  """Newest prepared version of a TFDS data set, as (its directory, 'name version').

  Args:
    data_dir: TFDS's data directory; '' for its default.
    name: 'cifar10', or with a configuration 'downsampled_imagenet/32x32'.
    remedy: what prepares it, with {data_dir} to fill in.

  Raises:
    UserError: not there, or written in a format without random access.
  """
  data_dir = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  data_dir = os.path.expanduser(data_dir)
  root = os.path.join(data_dir, name)
  versions = [v for v in (os.listdir(root) if os.path.isdir(root) else [])
              if re.fullmatch(r'\d+\.\d+\.\d+', v)
              and os.path.isfile(os.path.join(root, v, 'dataset_info.json'))]
  if not versions:
    raise UserError(f'{name} is not prepared in {data_dir}: set --config.data.data_dir to the '
                    f'TFDS directory that holds it, or {remedy.format(data_dir=data_dir)}')
  version = max(versions, key=lambda v: tuple(map(int, v.split('.'))))
  directory = os.path.join(root, version)
  try:
    with open(os.path.join(directory, 'dataset_info.json'), encoding='utf-8') as file:
      info = json.load(file)
    formats = [info.get('fileFormat', 'tfrecord'), *info.get('alternativeFileFormats', [])]
  except (OSError, ValueError, AttributeError) as error:
    raise _damaged(directory, error) from error
  if 'array_record' not in formats:
    # The tfds command imports the last two without declaring them (4.9.10).
    raise UserError(f'{directory} is in {formats[0]} format, which has no random access: run '
                    '`pip install tensorflow importlib_resources apache-beam mlcroissant` and '
                    f'`tfds convert_format --dataset_version_dir={directory} '
                    '--out_file_format=array_record`')
  return directory, f'{name} {version}'


def _build_command(name):
  """How to prepare a data set whose source TFDS can still download, with {data_dir} open."""
  # Not `tfds build`, which needs apache-beam and mlcroissant besides (4.9.10).
  return ('run `pip install tensorflow importlib_resources` and '
          f'`python -c "import tensorflow_datasets as tfds; tfds.builder(\'{name}\', '
          'data_dir=\'{data_dir}\', file_format=\'array_record\').download_and_prepare()"`')


def _damaged(directory, error):
  """The `UserError` for prepared files that are incomplete or corrupt, as an exception shows."""
  return UserError(f'{directory} is damaged ({reason(error)}): delete it and prepare it again')


def _records(directory, split):
  """A prepared split as a random-access source of {'image': PNG or JPEG bytes, ...}."""
  import tensorflow_datasets as tfds  # Takes a second, and some data sets do without it.
  try:
    builder = tfds.builder_from_directory(directory)
    # TFDS's own decoder is four times slower than PIL alone, and the values that it gives for
    # one-bit images depend on whether TensorFlow is installed.
    return builder.as_data_source(split=split, decoders={'image': tfds.decode.SkipDecoding()})
  except (OSError, ValueError, RuntimeError, LookupError) as error:
    raise _damaged(directory, error) from error


def _read(source, indices, directory):
  """A list of records, at `indices` (integers, repeats allowed), of a source of _records."""
  if not len(indices):
    return []
  try:
    return source.__getitems__([int(i) for i in indices])
  except (OSError, ValueError, RuntimeError, LookupError) as error:
    raise _damaged(directory, error) from error


def _decode(records, mode, side, directory):
  """Images of records as uint8 [N, side, side] (mode 'L') or [N, side, side, 3] ('RGB')."""
  from PIL import Image
  pixels = np.empty((len(records), side, side, *((3,) if mode == 'RGB' else ())), np.uint8)
  for row, record in enumerate(records):
    try:
      with Image.open(io.BytesIO(record['image'])) as image:
        if image.size != (side, side):
          raise ValueError(f'image of size {image.size} instead of {(side, side)}')
        pixels[row] = image.convert(mode)
    except (OSError, ValueError, SyntaxError) as error:
      raise _damaged(directory, error) from error
  return pixels


# Data sets --------------------------------------------------------------------------------------


def cifar10(data_dir, split):
  """CIFAR-10: 50,000 train, 10,000 test.

  Returns:
    name and uint8 [N, 32, 32, 3].
  """
  directory, label = _prepared(data_dir, 'cifar10', _build_command('cifar10'))
  source = _records(directory, split)
  records = _read(source, range(len(source)), directory)
  return f'{label}, {split}', _decode(records, 'RGB', 32, directory)


def imagenet(data_dir, split, side):
  """Downsampled ImageNet, decoded as it is fetched; TFDS's validation split is our test.

  Returns:
    name, number of images and fetch: int [N] -> uint8 [N, side, side, 3].
  """
  directory, label = _prepared(
      data_dir, f'downsampled_imagenet/{side}x{side}',
      'run `python -m conv_draw.prepare_imagenet --archives=DIR '
      f'--size={side} --data_dir={{data_dir}}`, where DIR holds train_{side}x{side}.tar and '
      f'valid_{side}x{side}.tar (TFDS has lost their source)')
  fetch = _Fetch(directory, 'validation' if split == 'test' else 'train', side)
  return f'{label}, {split}', len(fetch.source), fetch


class _Fetch:
  """int [N] -> uint8 [N, side, side, 3]. Sent to another process, it opens the files there."""

  def __init__(self, directory, tfds_split, side):
    self._arguments = directory, tfds_split, side
    self.source = _records(directory, tfds_split)

  def __call__(self, indices):
    directory, _, side = self._arguments
    return _decode(_read(self.source, indices, directory), 'RGB', side, directory)

  def __reduce__(self):
    return _Fetch, self._arguments


def omniglot(data_dir, split, split_by, binarisation_seed):
  """Omniglot, 28x28; a value of 255 is ink.

  Train images are grey: value / 255 is the probability of ink, to be sampled anew at every
  step. Test images are 0 or 255, sampled once from `binarisation_seed`.

  split_by='drawer' is the split of the literature: 15 of the 20 drawings of each of the 1,623
  characters are for training (24,345), the rest for testing (8,115). TFDS does not say who drew
  what, so the 15 are those whose images hash lowest. split_by='alphabet' is TFDS's own split:
  19,280 drawings of 30 alphabets for training, 13,180 of 20 others for testing.

  Returns:
    name and uint8 [N, 28, 28, 1].

  Raises:
    UserError: unknown split_by, negative seed, or data unprepared or damaged.
  """
  if split_by not in ('drawer', 'alphabet'):
    raise UserError(f"omniglot cannot be split by {split_by!r}: set --config.data.split_by to "
                    "'drawer' or 'alphabet'")
  if binarisation_seed < 0:
    raise UserError(f'the binarisation seed must not be negative, but is {binarisation_seed}: '
                    'set --config.data.binarisation_seed')
  directory, label = _prepared(data_dir, 'omniglot', _build_command('omniglot'))
  label = f'{label}, split by {split_by}, {split}'
  if split_by == 'alphabet':
    pixels, _, _ = _omniglot_split(directory, split)
  else:
    parts = zip(_omniglot_split(directory, 'train'), _omniglot_split(directory, 'test'),
                strict=True)
    pixels, labels, hashes = (np.concatenate(part) for part in parts)
    pixels = pixels[rows_by_drawer(labels, hashes, split)]
  if split == 'test':
    label += f', binarised with seed {binarisation_seed}'
    pixels = binarise(pixels, binarisation_seed)
  return label, pixels


@functools.lru_cache(maxsize=2)  # One pool serves both splits: 25 MB, 4 seconds to decode.
def _omniglot_split(directory, tfds_split):
  """Decodes one split of TFDS's Omniglot.

  Returns:
    uint8 [N, 28, 28, 1] (255: all ink), int64 [N] characters and uint64 [N] hashes of the
    full-size images, all in the order of the hashes, which is as good as random and does not
    depend on the order of the records.
  """
  source = _records(directory, tfds_split)
  records = _read(source, range(len(source)), directory)
  hashes, small = [], []
  for start in range(0, len(records), 512):  # All of them at 105x105 would be 1.4 GB of floats.
    ink = _decode(records[start:start + 512], 'L', 105, directory) == 0  # Drawn dark on light.
    for bits in np.packbits(ink, axis=-1):
      hashes.append(int.from_bytes(hashlib.sha256(bits).digest()[:8], 'big'))
    small.append(np.rint(255 * area_average(ink.astype(np.float32), 28)).astype(np.uint8))
  hashes = np.array(hashes, np.uint64)
  order = np.argsort(hashes, kind='stable')
  labels = np.array([int(r['label']) for r in records])
  return np.concatenate(small)[order, ..., None], labels[order], hashes[order]


def area_average(pixels, side):
  """Exact area averages: float32 [..., n, n] -> [..., side, side]; preserves the mean."""
  n = pixels.shape[-1]
  # Output i covers the inputs' coordinates [i, i + 1] * n / side. Its weight on input j is its
  # overlap with [j, j + 1] over its own length; times side / side, all lengths are integers.
  i, j = np.arange(side)[:, None], np.arange(n)[None]
  overlap = np.minimum((i + 1) * n, (j + 1) * side) - np.maximum(i * n, j * side)
  weights = (np.maximum(overlap, 0) / n).astype(np.float32)  # [side, n], rows sum to 1
  return weights @ pixels @ weights.T


def rows_by_drawer(labels, hashes, split):
  """Rows of the pooled drawings that belong to a split, in the order of their hashes.

  Args:
    labels: int [N] characters.
    hashes: uint64 [N].
    split: 'train' for the DRAWERS_TRAIN drawings of each character with the lowest hashes,
      'test' for the others.

  Returns:
    int64 [number of rows].
  """
  order = np.argsort(hashes, kind='stable')
  by_character = order[np.argsort(labels[order], kind='stable')]  # then by hash
  rank = np.empty(len(labels), np.int64)  # of a drawing among those of its character
  rank[by_character] = np.arange(len(labels)) - np.searchsorted(labels[by_character],
                                                                labels[by_character])
  return order[(rank[order] < DRAWERS_TRAIN) == (split == 'train')]


def binarise(pixels, seed):
  """Samples uint8 [N, ...] of 0 or 255, with probability pixels / 255 of 255."""
  uniform = np.random.Generator(np.random.PCG64(seed)).random(pixels.shape, np.float32)
  return np.where(255 * uniform < pixels, np.uint8(255), np.uint8(0))

"""Data sets of TFDS, read from prepared array_record files without TensorFlow."""

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
  """(directory, 'name version') of the newest prepared version of a TFDS data set.

  Args:
    data_dir: TFDS's data directory; '' for its default.
    name: 'cifar10', or with a configuration 'downsampled_imagenet/32x32'.
    remedy: how to prepare it, with the placeholder {data_dir}.

  Raises:
    UserError: it is missing or damaged, or its format has no random access.
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
    # The tfds command imports the last two but does not require them (4.9.10).
    raise UserError(f'{directory} is in {formats[0]} format, which has no random access: run '
                    '`pip install tensorflow importlib_resources apache-beam mlcroissant` and '
                    f'`tfds convert_format --dataset_version_dir={directory} '
                    '--out_file_format=array_record`')
  return directory, f'{name} {version}'


def _build_command(name):
  """How to prepare a data set that TFDS can still download, with the placeholder {data_dir}."""
  # `tfds build` would also need apache-beam and mlcroissant (4.9.10).
  return ('run `pip install tensorflow importlib_resources` and '
          f'`python -c "import tensorflow_datasets as tfds; tfds.builder(\'{name}\', '
          'data_dir=\'{data_dir}\', file_format=\'array_record\').download_and_prepare()"`')


def _damaged(directory, error):
  """The `UserError` for the exception that damaged prepared files have raised."""
  return UserError(f'{directory} is damaged ({reason(error)}): delete it and prepare it again')


def _records(directory, split):
  """Random-access source of a prepared split: records {'image': PNG or JPEG bytes, ...}."""
  import tensorflow_datasets as tfds  # takes a second, and some data sets do not need it
  try:
    builder = tfds.builder_from_directory(directory)
    # TFDS's decoder is four times slower than Pillow, and its values for one-bit images depend on
    # whether TensorFlow is installed.
    return builder.as_data_source(split=split, decoders={'image': tfds.decode.SkipDecoding()})
  except (OSError, ValueError, RuntimeError, LookupError) as error:
    raise _damaged(directory, error) from error


def _read(source, indices, directory):
  """List of the records of a source at `indices`: integers, which may repeat."""
  if not len(indices):
    return []
  try:
    return source.__getitems__([int(i) for i in indices])
  except (OSError, ValueError, RuntimeError, LookupError) as error:
    raise _damaged(directory, error) from error


def _decode(records, mode, side, directory):
  """Images of records: uint8 [N, side, side] (mode 'L') or [N, side, side, 3] ('RGB')."""
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
  """Name and uint8 [N, 32, 32, 3] of CIFAR-10: 50,000 train, 10,000 test."""
  directory, label = _prepared(data_dir, 'cifar10', _build_command('cifar10'))
  source = _records(directory, split)
  records = _read(source, range(len(source)), directory)
  return f'{label}, {split}', _decode(records, 'RGB', 32, directory)


def imagenet(data_dir, split, side):
  """Downsampled ImageNet, decoded when fetched. The test split is TFDS's validation split.

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
  """int [N] -> uint8 [N, side, side, 3]. Every process that receives it opens the files itself."""

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

  Training images are grey: value / 255 is the probability of ink, to be sampled at every step.
  Test images are 0 or 255, sampled once with `binarisation_seed`.

  split_by='drawer' is the split of the literature: 15 of the 20 drawings of each of the 1,623
  characters are for training (24,345), the rest for testing (8,115). TFDS does not record the
  drawers; the 15 are the drawings with the lowest hashes. split_by='alphabet' is TFDS's own split:
  19,280 drawings of 30 alphabets for training, 13,180 of 20 others for testing.

  Returns:
    name and uint8 [N, 28, 28, 1].
  """
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


@functools.lru_cache(maxsize=2)  # both splits need both of TFDS's: 25 MB, 4 seconds to decode
def _omniglot_split(directory, tfds_split):
  """Decodes one split of TFDS's Omniglot.

  Returns:
    uint8 [N, 28, 28, 1] (255: all ink), int64 [N] characters and uint64 [N] hashes of the
    full-size images, all in the order of the hashes, which does not depend on that of the records.
  """
  source = _records(directory, tfds_split)
  records = _read(source, range(len(source)), directory)
  hashes, small = [], []
  for start in range(0, len(records), 512):  # all at once would be 1.4 GB of floats
    ink = _decode(records[start:start + 512], 'L', 105, directory) == 0  # drawn dark on light
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
  # Output i covers the input coordinates [i, i + 1] * n / side. The weight of input j is the length
  # of the overlap with [j, j + 1] over n / side. Lengths below are times side: integers.
  i, j = np.arange(side)[:, None], np.arange(n)[None]
  overlap = np.minimum((i + 1) * n, (j + 1) * side) - np.maximum(i * n, j * side)
  weights = (np.maximum(overlap, 0) / n).astype(np.float32)  # [side, n], rows sum to 1
  return weights @ pixels @ weights.T


def rows_by_drawer(labels, hashes, split):
  """Indices of the drawings of a split, int64 [M], in the order of their hashes.

  Args:
    labels: int [N] characters.
    hashes: uint64 [N].
    split: 'train' for the DRAWERS_TRAIN drawings of each character with the lowest hashes,
      'test' for the others.
  """
  order = np.argsort(hashes, kind='stable')
  by_character = order[np.argsort(labels[order], kind='stable')]  # then by hash
  rank = np.empty(len(labels), np.int64)  # of a drawing among those of its character
  rank[by_character] = np.arange(len(labels)) - np.searchsorted(labels[by_character],
                                                                labels[by_character])
  return order[(rank[order] < DRAWERS_TRAIN) == (split == 'train')]


def binarise(pixels, seed):
  """uint8 like `pixels`, sampled: 255 with probability pixels / 255, else 0."""
  uniform = np.random.Generator(np.random.PCG64(seed)).random(pixels.shape, np.float32)
  return np.where(255 * uniform < pixels, np.uint8(255), np.uint8(0))

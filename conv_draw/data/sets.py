"""Every data set as a random-access table of uint8 images.

A training batch is a pure function of (seed, reverts, step), which a checkpoint holds. tfds,
scikit-learn and Pillow are imported only when a data set needs them.
"""

import dataclasses
import functools
import os
from collections.abc import Callable

import numpy as np

from conv_draw.data import folder as data_folder
from conv_draw.data import tfds
from conv_draw.errors import UserError

NAMES = ('digits', 'photos', 'cifar10', 'omniglot', 'imagenet32', 'imagenet64', 'folder')

DIGITS_TEST = 300  # the last 300 of 1,797, mostly by other writers than the training images
CROP = 32  # pixels, side of a crop of the photographs
CROP_STRIDE = 4  # pixels between the offsets of neighbouring training crops
TEST_LEFT = 448  # pixels: training crops end left of this column, test crops start at it


@dataclasses.dataclass(frozen=True)
class Images:
  """One split of one data set, by index.

  Attributes:
    name: to print beside every number measured on it.
    shape: (H, W, C) of every image.
    grey_levels: number of grey levels; pixel values are 0..grey_levels-1.
    fetch: int array [N] of indices below `size` -> uint8 [N, H, W, C]. With `crops`, it also takes
      positions [N, 2] in [0, 1); by default the crops are central.
    size: number of images.
    on_disk: whether fetch reads and decodes files. Such `Images` can be sent to another process.
    crops: whether fetch cuts squares out of larger images.
    digests: list of digests of file names -> {name's digest: file's digest} of those that exist;
      by default of a few files. Empty unless the set is a folder.
    left_out: message about files that were left out; '' if none were.
  """
  name: str
  shape: tuple[int, int, int]
  grey_levels: int
  fetch: Callable[[np.ndarray], np.ndarray]
  size: int
  on_disk: bool = False
  crops: bool = False
  digests: Callable[..., dict] = lambda keys=None: {}
  left_out: str = ''

  def __len__(self):
    return self.size


def load(data_config, split):
  """Opens one split of the data set that `data_config` names, as `Images`.

  Args:
    data_config: `config.data`, with values that `workdir.settings` allows.
    split: 'train' or 'test'.

  Raises:
    UserError: unknown name, an option of another data set, or data that are missing, unprepared or
      damaged.
  """
  name, data_dir = data_config.name, os.path.expanduser(data_config.data_dir)
  if name == 'digits':
    images = _digits(split)
  elif name == 'photos':
    images = _photos(split)
  elif name == 'cifar10':
    label, pixels = tfds.cifar10(data_dir, split)
    images = _in_memory(label, pixels, grey_levels=256)
  elif name == 'omniglot':
    label, pixels = tfds.omniglot(
        data_dir, split, data_config.split_by, data_config.binarisation_seed)
    images = _in_memory(label, pixels, grey_levels=256)
  elif name in ('imagenet32', 'imagenet64'):
    side = 32 if name == 'imagenet32' else 64
    label, size, fetch = tfds.imagenet(data_dir, split, side)
    images = Images(label, (side, side, 3), 256, fetch, size, on_disk=True)
  elif name == 'folder':
    found = data_folder.load(
        data_dir, split, data_config.image_size, data_config.hold_out, data_config.crop)
    images = Images(
        grey_levels=256, on_disk=True, crops=data_config.crop > 0, **found._asdict())
  else:
    raise UserError(f'unknown data set {name!r}: set --config.data.name to one of '
                    + ', '.join(NAMES))
  if data_config.crop and name != 'folder':
    raise UserError(f'{name} is used whole: leave --config.data.crop at 0')
  if data_config.image_size not in (0, images.shape[0]):
    raise UserError(f'{name} has images of {images.shape[0]}x{images.shape[1]} pixels, not '
                    f'{data_config.image_size}: leave --config.data.image_size at 0')
  return images


# The order of the images ------------------------------------------------------------------------


def batch_indices(size, batch_size, seed, step):
  """Indices of the training batch of one step, a pure function of the arguments.

  The stream is one epoch after another, each a fresh permutation of range(size); batch `step`
  takes its elements from step * batch_size on, so a batch may straddle epochs.

  Args:
    size: number of images.
    batch_size: number of indices wanted; may exceed size.
    seed: tuple of non-negative integers.
    step: counts from 0.

  Returns:
    int64 [batch_size].
  """
  position = step * batch_size
  parts, wanted = [], batch_size
  while wanted:
    epoch, offset = divmod(position, size)
    part = _permutation(size, seed, epoch)[offset:offset + wanted]
    parts.append(part)
    position += len(part)
    wanted -= len(part)
  return np.concatenate(parts).astype(np.int64)


# An epoch of ImageNet takes 5 MB and 30 ms; a batch that straddles epochs needs two.
@functools.lru_cache(maxsize=2)
def _permutation(size, seed, epoch):
  """The order of one epoch, int [size], of 4 bytes an image: every worker process holds it."""
  # SeedSequence pads with zeros: the length distinguishes (1,) and (1, 0). The epoch is a spawn
  # key, which is mixed separately from the seed.
  sequence = np.random.SeedSequence((len(seed), *seed), spawn_key=(epoch,))
  order = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)
  np.random.Generator(np.random.PCG64(sequence)).shuffle(order)
  order.flags.writeable = False
  return order


def eval_batches(images, batch_size, max_images=0):
  """One exact pass in order: every image once, the last batch padded.

  Args:
    images: `Images`.
    batch_size: images in every batch, padding included.
    max_images: number of images; 0 for all.

  Yields:
    uint8 [batch_size, H, W, C] (padding repeats the batch's first image), float32 [batch_size]
    mask (1 for an image, 0 for padding) and int64 [batch_size] indices.
  """
  total = min(max_images, images.size) if max_images else images.size
  for start in range(0, total, batch_size):
    count = min(batch_size, total - start)
    indices = np.full(batch_size, start, np.int64)
    indices[:count] = np.arange(start, start + count)
    pixels = np.empty((batch_size, *images.shape), np.uint8)
    pixels[:count] = images.fetch(indices[:count])
    pixels[count:] = pixels[0]
    yield pixels, (np.arange(batch_size) < count).astype(np.float32), indices


# Data sets that come with scikit-learn ----------------------------------------------------------


def _in_memory(name, pixels, grey_levels):
  """`Images` over uint8 [N, H, W, C] held in memory."""
  return Images(name, pixels.shape[1:], grey_levels, lambda indices: pixels[indices], len(pixels))


def _digits(split):
  """Handwritten digits, 8x8x1, values 0..16: 1,497 train, 300 test."""
  from sklearn import datasets  # slow to import
  pixels = datasets.load_digits().images.astype(np.uint8)[..., None]
  rows = slice(-DIGITS_TEST, None) if split == 'test' else slice(None, -DIGITS_TEST)
  return _in_memory(f'digits (scikit-learn), {split}', pixels[rows], grey_levels=17)


def _photos(split):
  """32x32 RGB crops of two 427x640 photographs: 20,790 train (overlapping), 156 test (not).

  Training crops lie left of column 448 and test crops right of it, so that no pixel is in both.
  Index i is a crop of photograph i % 2, so that the first few show both.
  """
  from sklearn import datasets
  photos = np.stack(datasets.load_sample_images().images)  # [2, 427, 640, 3]
  height, width = photos.shape[1:3]
  if split == 'train':
    tops = range(0, height - CROP + 1, CROP_STRIDE)
    lefts = range(0, TEST_LEFT - CROP + 1, CROP_STRIDE)
  else:
    tops = range(0, height - CROP + 1, CROP)
    lefts = range(TEST_LEFT, width - CROP + 1, CROP)
  offsets = [(top, left) for top in tops for left in lefts]

  def fetch(indices):
    pixels = np.empty((len(indices), CROP, CROP, 3), np.uint8)
    for row, index in enumerate(indices):
      top, left = offsets[index // len(photos)]
      pixels[row] = photos[index % len(photos), top:top + CROP, left:left + CROP]
    return pixels

  return Images(
      f'photos (scikit-learn), {split}', (CROP, CROP, 3), 256, fetch, len(photos) * len(offsets))

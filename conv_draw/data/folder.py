"""A directory of image files as a data set: headers are checked at once, pixels read lazily."""

import collections
import functools
import hashlib
import itertools
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from conv_draw.data import decoding, headers
from conv_draw.errors import UserError, reason

# Images that crops are taken from are kept decoded if together they have no more bytes.
KEPT = 2**30

OTHER = {'train': 'test', 'test': 'train'}
KNOWN_BY = 8  # files, whose digests tell one folder from another
SHOWN = 5  # names in a message

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff')


class Folder(NamedTuple):
  """One split of a directory of images: fields of `sets.Images`."""

  name: str
  shape: tuple[int, int, int]  # (H, W, C): C is 1 if all files of both splits are grey, else 3
  size: int
  fetch: Callable
  digests: Callable
  left_out: str


def load(data_dir, split, image_size, hold_out, crop=0):
  """Opens one split of a directory of images, searched recursively.

  Subdirectories train and test, where both exist, are the splits. Otherwise the files whose
  names hash lowest are the test split, which does not depend on where the directory lies.

  Args:
    data_dir: path of the directory.
    split: 'train' or 'test'.
    image_size: 0 if all images have the same size; N to shrink every image to N pixels on its
      shorter side and keep the square in its middle.
    hold_out: fraction of the files to test on, between 0 and 1.
    crop: if not 0, squares of so many pixels are cut out of images of any size.

  Returns:
    `Folder`. Its `fetch`, int [N] -> uint8 [N, H, W, C], takes the places of crops as well, [N, 2]
    in [0, 1): from top to bottom and from left to right; in the middle without.

  Raises:
    UserError: no images, or one that cannot be used, by name. `fetch` raises it too, for pixels
      that do not decode.
  """
  if not data_dir or not os.path.isdir(data_dir):
    raise UserError(f'no directory of images at {data_dir!r}: set --config.data.data_dir')
  if image_size < 0:
    raise UserError(f'an image size cannot be {image_size}: set --config.data.image_size')
  if image_size and crop:
    raise UserError('--config.data.image_size shrinks images to the square that it cuts out, and '
                    '--config.data.crop does not shrink: set one of them')
  files, special = _split_files(data_dir, hold_out)
  every = files['train'] + files['test']
  found = [_header(path, image_size, crop) for path in every]
  grey = all(mode in ('1', 'L') for mode, _ in found)
  if image_size or crop:
    width = height = image_size or crop
  else:
    width, height = _common_size(every, [size for _, size in found])
  shape = (height, width, 1 if grey else 3)
  paths = files[split]
  checked = np.zeros(len(paths), bool)  # in each process its own

  def fetch(indices, places=None):
    pixels = np.empty((len(indices), *shape), np.uint8)
    for row, index in enumerate(indices):
      path, check = paths[index], not checked[index]
      if crop:
        pixels[row] = _cut(whole(path, check), crop, (0.5, 0.5) if places is None else places[row])
      else:
        pixels[row], _ = _pixels(path, shape, image_size, check)
      checked[index] = True
    return pixels

  sizes = dict(zip(every, (size for _, size in found), strict=True))

  def whole(path, check):
    width, height = sizes[path]
    shape_ = height, width, shape[2]
    return _kept(path, shape_) if total <= KEPT else _pixels(path, shape_, 0, check)[0]

  @functools.cache
  def by_digest():
    return {_digest(_relative(path, data_dir)): path for path in paths + files[OTHER[split]]}

  def digests(keys=None):
    named = by_digest()
    keys = sorted(itertools.islice(named, len(paths)))[-KNOWN_BY:] if keys is None else keys
    return {key: _digest_of_file(named[key]) for key in keys if key in named}

  total = shape[2] * sum(width * height for width, height in sizes.values())
  kind = 'crops' if crop else 'folder'
  label = f'{kind} {os.path.basename(os.path.abspath(data_dir))}, {height}x{width}, {split}'
  left_out = f'{data_dir}: left out what is no regular file: {_few(special)}' if special else ''
  return Folder(label, shape, len(paths), fetch, digests, left_out)


def _cut(pixels, side, place):
  """The square of `side` pixels at a place in [0, 1)^2 of those that there are."""
  top, left = (int(at * (n - side + 1)) for at, n in zip(place, pixels.shape[:2], strict=True))
  return pixels[top : top + side, left : left + side]


@functools.cache  # in each process its own
def _kept(path, shape):
  return _pixels(path, shape, 0)[0]


def read(path):
  """Decodes one file whole.

  Args:
    path: of the file, or `io.BytesIO` of it.
  Returns:
    uint8 [H, W, C], where C is 1 if it is grey, else 3; and `headers.others` of it, which are not
    in these pixels.
  Raises:
    UserError: not an image, or one of which these pixels would not be all: transparent, deeper than
      8 bits, of several frames or pages, or of other colours than RGB.
  """
  mode, (width, height) = _header(path, 0)
  with _open(path) as image:
    strange = headers.strange_colours(image)
  if strange:
    raise UserError(f'{path} has {strange} pixels, which RGB does not hold: convert it to RGB')
  return _pixels(path, (height, width, 1 if mode in ('1', 'L') else 3), 0)


def _split_files(data_dir, hold_out):
  """Which files there are.

  Returns:
    {'train': paths, 'test': paths}, lists in an order that only the files' names decide; and paths
    of what is no regular file, though called like an image.
  """
  roots = {split: os.path.join(data_dir, split) for split in ('train', 'test')}
  if all(os.path.isdir(root) for root in roots.values()):
    files, special = {}, []
    for split, root in roots.items():
      files[split], others = _image_files(root)
      special += others
      if not files[split]:
        raise UserError(f'{root} holds no images ({", ".join(EXTENSIONS)}): put some '
                        'there, or set --config.data.data_dir to another directory')
    return files, special
  if not 0 < hold_out < 1:
    raise UserError(f'{data_dir} has no train and test subdirectories, and of its files a '
                    f'fraction between 0 and 1 can be held out, not {hold_out}: '
                    'set --config.data.hold_out')
  paths, special = _image_files(data_dir)
  if len(paths) < 2:
    raise UserError(f'{data_dir} holds {len(paths)} images ({", ".join(EXTENSIONS)}), and both '
                    'splits need one: set --config.data.data_dir to a directory of images')
  paths.sort(key=lambda path: hashlib.sha256(_relative(path, data_dir)).digest())
  count = min(max(round(hold_out * len(paths)), 1), len(paths) - 1)
  return {'train': paths[count:], 'test': paths[:count]}, special


def _image_files(root):
  """Paths below `root` called like images, sorted: of files, and of what is none.

  Hidden ones are in neither (macOS writes ._NAME.png). A pipe, a socket or a device could be waited
  for, or read, for ever.
  """
  found = sorted(os.path.join(directory, name) for directory, _, names in os.walk(root)
                 for name in names
                 if name.lower().endswith(EXTENSIONS) and not name.startswith('.'))
  special = [path for path in found if os.path.exists(path) and not os.path.isfile(path)]
  return sorted(set(found) - set(special)), special


def _relative(path, data_dir):
  """The name of a file in a folder, as bytes that do not depend on where it lies."""
  return os.path.relpath(path, data_dir).replace(os.sep, '/').encode('utf-8', 'surrogateescape')


def _digest(data):
  return hashlib.sha256(data).hexdigest()[:16]


def _digest_of_file(path):
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()[:16]


def _few(names):
  more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
  return ', '.join(names[:SHOWN]) + more


def _common_size(paths, sizes):
  """The (width, height) of all images, whose own ones are `sizes`.

  Raises:
    UserError: names an image of another size than most.
  """
  most = collections.Counter(sizes).most_common(1)[0][0]
  for path, size in zip(paths, sizes, strict=True):
    if size != most:
      raise UserError(f'{path} has {size[0]}x{size[1]} pixels where others have '
                      f'{most[0]}x{most[1]}: set --config.data.image_size=N to bring all images '
                      'to NxN')
  return most


def _open(path):
  """PIL image of which only the header has been read.

  Raises:
    UserError: not an image.
  """
  try:
    return headers.image(path)
  except Exception as error:  # PIL raises almost anything on a damaged file.
    raise _unreadable(path, error) from error


def _unreadable(path, error):
  """The `UserError` for an exception that PIL has raised."""
  from PIL import UnidentifiedImageError
  unknown = isinstance(error, UnidentifiedImageError)
  why = 'Pillow does not recognise it' if unknown else reason(error)
  return UserError(f'{path} cannot be read as an image ({why}): mend or remove it')


def _header(path, image_size, crop=0):
  """(PIL mode, upright (width, height)) of a file, without decoding its pixels.

  Raises:
    UserError: unreadable, transparent, deeper than 8 bits, of several frames, or smaller than
      `image_size` or `crop`.
  """
  with _open(path) as image:
    try:
      size = headers.upright_size(image)
      deep = headers.bits(image, path) > 8
      transparent, pictures = image.has_transparency_data, headers.pictures(image)
    except Exception as error:  # As in _open: the tags of a damaged file.
      raise _unreadable(path, error) from error
    if transparent:
      raise UserError(f'{path} has an alpha channel or a transparent colour: flatten or remove it')
    if deep:
      raise UserError(f'{path} has more than 8 bits a channel: convert it to 8 bits or remove it')
    if pictures > 1:
      raise UserError(f'{path} has {pictures} frames, pages, layers or sizes: save the one that is '
                      'meant as a file, or remove it')
    for least, key in ((image_size, 'image_size'), (crop, 'crop')):
      if min(size) < least:
        raise UserError(f'{path} has {size[0]}x{size[1]} pixels, fewer than {least}: '
                        f'lower --config.data.{key} or remove it')
    return image.mode, size


def _pixels(path, shape, image_size, check=True):
  """Decodes one file to uint8 [H, W, C] = `shape`, and to `headers.others`.

  Args:
    check: as of `decoding.decoded`.
  Raises:
    UserError: damaged, or changed since the directory was opened.
  """
  from PIL import Image
  try:
    image, others = decoding.decoded(path, check)
    image = image.convert('L' if shape[2] == 1 else 'RGB')
  except Exception as error:
    raise _unreadable(path, error) from error
  if image_size and image.size != (image_size, image_size):
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    # A box filter averages areas: no ringing, and no aliasing at any factor.
    image = image.resize((image_size, image_size), Image.Resampling.BOX,
                         box=(left, top, left + side, top + side))
  if image.size != (shape[1], shape[0]):
    raise UserError(f'{path} changed its size while it was in use: start again')
  return np.asarray(image, np.uint8).reshape(shape), others

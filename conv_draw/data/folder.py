"""A directory of image files as a data set: headers are checked at once, pixels read lazily."""

import collections
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from conv_draw.data import decoding, headers
from conv_draw.errors import UserError, reason

# Bytes: images from which crops are cut stay decoded in memory if together they take no more.
CACHE_SIZE = 2**30

IDENTITY_FILES = 8  # files whose digests identify a folder
NAMES_SHOWN = 5  # in a message

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

  If the subdirectories train and test exist, they are the splits. Otherwise the files whose names
  have the lowest hashes are the test split, wherever the directory lies.

  Args:
    data_dir: path of the directory.
    split: 'train' or 'test'.
    image_size: N to shrink every image to N pixels on its shorter side and keep the central
      square; 0 if all images have the same size.
    hold_out: fraction of the files in the test split, between 0 and 1.
    crop: side of the squares to cut out of images of any size; 0 for whole images.

  Returns:
    `Folder`. Its `fetch` maps int [N] and, for crops, their positions [N, 2] in [0, 1) (vertical,
    horizontal; by default central) to uint8 [N, H, W, C].

  Raises:
    UserError: there are no images, or a file cannot be used. `fetch` raises it if pixels cannot be
      decoded.
  """
  if not data_dir or not os.path.isdir(data_dir):
    raise UserError(f'no directory of images at {data_dir!r}: set --config.data.data_dir')
  if image_size and crop:
    raise UserError('--config.data.image_size shrinks images to the square that it cuts out, and '
                    '--config.data.crop does not shrink: set one of them')
  files, special = _split_files(data_dir, hold_out)
  paths, every = files[split], files['train'] + files['test']
  modes, sizes = zip(*(_header(path, image_size, crop) for path in every), strict=True)
  side = image_size or crop
  width, height = (side, side) if side else _common_size(every, sizes)
  shape = (height, width, 1 if set(modes) <= {'1', 'L'} else 3)
  cached = crop and shape[2] * sum(w * h for w, h in sizes) <= CACHE_SIZE
  sizes = dict(zip(every, sizes, strict=True))
  checked = np.zeros(len(paths), bool)  # in each process its own

  def decode(index):
    path = paths[index]
    decoded_shape = shape if image_size else (*sizes[path][::-1], shape[2])
    if cached:
      return _cached_pixels(path, decoded_shape)
    pixels, _ = _pixels(path, decoded_shape, image_size, not checked[index])
    checked[index] = True
    return pixels

  def fetch(indices, positions=None):
    positions = np.full((len(indices), 2), 0.5) if positions is None else positions
    pixels = np.empty((len(indices), *shape), np.uint8)
    for row, (index, position) in enumerate(zip(indices, positions, strict=True)):
      image = decode(index)
      top, left = (int(at * (size - kept + 1)) for at, size, kept in zip(
          position, image.shape[:2], (height, width), strict=True))
      pixels[row] = image[top : top + height, left : left + width]
    return pixels

  kind = 'crops' if crop else 'folder'
  name = f'{kind} {os.path.basename(os.path.abspath(data_dir))}, {height}x{width}, {split}'
  left_out = ''
  if special:
    shown = ', '.join(special[:NAMES_SHOWN])
    more = f' and {len(special) - NAMES_SHOWN} more' if len(special) > NAMES_SHOWN else ''
    left_out = f'{data_dir}: left out, as not regular files: {shown}{more}'
  return Folder(name, shape, len(paths), fetch,
                functools.partial(_digests, data_dir, paths, every), left_out)


@functools.cache  # in each process its own
def _cached_pixels(path, shape):
  return _pixels(path, shape, 0)[0]


def _digests(data_dir, paths, every, keys=None):
  """Digests of files by the digests of their names, as `sets.Images.digests` returns them.

  Args:
    paths: of the split; some of these files are chosen if keys is None.
    every: paths of both splits, between which files may move.
  """
  by_name = {_digest(_relative(path, data_dir)): path for path in every}
  if keys is None:
    keys = sorted(_digest(_relative(path, data_dir)) for path in paths)[-IDENTITY_FILES:]
  return {key: _digest(pathlib.Path(by_name[key]).read_bytes()) for key in keys if key in by_name}


def read(path):
  """Decodes one whole file.

  Args:
    path: of the file, or `io.BytesIO` of it.
  Returns:
    uint8 [H, W, C], where C is 1 for a grey image, else 3; and the file's `headers.metadata`, which
    these pixels do not hold.
  Raises:
    UserError: not an image, or 8-bit pixels do not hold all of it: it is transparent, deeper than 8
      bits, has several frames or pages, or other colours than RGB.
  """
  mode, (width, height) = _header(path, 0)
  with _open(path) as image:
    colours = headers.unsupported_colours(image)
  if colours:
    raise UserError(f'{path} has {colours} pixels, which RGB does not hold: convert it to RGB')
  return _pixels(path, (height, width, 1 if mode in ('1', 'L') else 3), 0)


def _split_files(data_dir, hold_out):
  """Finds the image files of both splits.

  Returns:
    {'train': paths, 'test': paths}, lists in an order that depends on the files' names alone; and
    paths with an image's extension that are not regular files.
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
    raise UserError(f'{data_dir} has no train and test subdirectories, and a fraction of its files '
                    f'between 0 and 1 can be held out, not {hold_out}: set --config.data.hold_out')
  paths, special = _image_files(data_dir)
  if len(paths) < 2:
    raise UserError(f'{data_dir} holds {len(paths)} images ({", ".join(EXTENSIONS)}), and both '
                    'splits need one: set --config.data.data_dir to a directory of images')
  paths.sort(key=lambda path: hashlib.sha256(_relative(path, data_dir)).digest())
  count = min(max(round(hold_out * len(paths)), 1), len(paths) - 1)
  return {'train': paths[count:], 'test': paths[:count]}, special


def _image_files(root):
  """Paths below `root` with an image's extension, sorted: regular files, and others.

  Hidden files are in neither list (macOS writes ._NAME.png). The others are pipes, sockets and
  devices, from which reading might not end.
  """
  found = sorted(os.path.join(directory, name) for directory, _, names in os.walk(root)
                 for name in names
                 if name.lower().endswith(EXTENSIONS) and not name.startswith('.'))
  special = [path for path in found if os.path.exists(path) and not os.path.isfile(path)]
  return sorted(set(found) - set(special)), special


def _relative(path, data_dir):
  """The path of a file below a folder, as bytes that do not depend on where the folder lies."""
  return os.path.relpath(path, data_dir).replace(os.sep, '/').encode('utf-8', 'surrogateescape')


def _digest(data):
  return hashlib.sha256(data).hexdigest()[:16]


def _common_size(paths, sizes):
  """The (width, height) that all images have.

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
  """PIL image, of which only the header has been read.

  Raises:
    UserError: not an image.
  """
  try:
    return headers.image(path)
  except Exception as error:  # Pillow raises almost any exception for a damaged file
    raise _unreadable(path, error) from error


def _unreadable(path, error):
  """The `UserError` for an exception that Pillow has raised."""
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
      size, bits = headers.upright_size(image), headers.bits(image, path)
      transparent, frames = image.has_transparency_data, headers.frames(image)
    except Exception as error:  # the tags of a damaged file, as in _open
      raise _unreadable(path, error) from error
    if transparent:
      raise UserError(f'{path} has an alpha channel or a transparent colour: flatten or remove it')
    if bits > 8:
      raise UserError(f'{path} has more than 8 bits a channel: convert it to 8 bits or remove it')
    if frames > 1:
      raise UserError(f'{path} has {frames} frames, pages, layers or sizes: save the intended one '
                      'as a file, or remove it')
    for least, key in ((image_size, 'image_size'), (crop, 'crop')):
      if min(size) < least:
        raise UserError(f'{path} has {size[0]}x{size[1]} pixels, fewer than {least}: '
                        f'lower --config.data.{key} or remove it')
    return image.mode, size


def _pixels(path, shape, image_size, check=True):
  """Decodes one file to uint8 [H, W, C] = `shape`, and its `headers.metadata`.

  Args:
    check: as of `decoding.decode`.
  Raises:
    UserError: damaged, or changed since the directory was opened.
  """
  from PIL import Image
  try:
    image, metadata = decoding.decode(path, check)
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
  return np.asarray(image, np.uint8).reshape(shape), metadata

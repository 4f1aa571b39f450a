"""A directory of image files as a data set: headers are checked at once, pixels read lazily."""

import collections
import functools
import hashlib
import os

import numpy as np

from conv_draw.data import headers
from conv_draw.errors import UserError, reason

# Images that crops are taken from are kept decoded if together they have no more bytes.
KEPT = 2**30

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff')


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
    name; (H, W, C), where C is 1 if all files of both splits are grey, else 3; number of images;
    and fetch: int [N] -> uint8 [N, H, W, C], which takes the places of crops as well, [N, 2] in
    [0, 1): from top to bottom and from left to right; in the middle without.

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
  files = _split_files(data_dir, hold_out)
  every = files['train'] + files['test']
  found = [_header(path, image_size, crop) for path in every]
  grey = all(mode in ('1', 'L') for mode, _ in found)
  if image_size or crop:
    width = height = image_size or crop
  else:
    width, height = _common_size(every, [size for _, size in found])
  shape = (height, width, 1 if grey else 3)
  paths = files[split]

  def fetch(indices, places=None):
    pixels = np.empty((len(indices), *shape), np.uint8)
    for row, index in enumerate(indices):
      if crop:
        pixels[row] = _cut(whole(paths[index]), crop, (0.5, 0.5) if places is None else places[row])
      else:
        pixels[row], _ = _pixels(paths[index], shape, image_size)
    return pixels

  sizes = dict(zip(every, (size for _, size in found), strict=True))

  def whole(path):
    width, height = sizes[path]
    decode = _kept if total <= KEPT else _whole
    return decode(path, (height, width, shape[2]))

  total = shape[2] * sum(width * height for width, height in sizes.values())
  kind = 'crops' if crop else 'folder'
  label = f'{kind} {os.path.basename(os.path.abspath(data_dir))}, {height}x{width}, {split}'
  return label, shape, len(paths), fetch


def _cut(pixels, side, place):
  """The square of `side` pixels at a place in [0, 1)^2 of those that there are."""
  top, left = (int(at * (n - side + 1)) for at, n in zip(place, pixels.shape[:2], strict=True))
  return pixels[top : top + side, left : left + side]


def _whole(path, shape):
  return _pixels(path, shape, 0)[0]


@functools.cache  # in each process its own
def _kept(path, shape):
  return _whole(path, shape)


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
  """{'train': paths, 'test': paths}, lists in an order that only the files' names decide."""
  roots = {split: os.path.join(data_dir, split) for split in ('train', 'test')}
  if all(os.path.isdir(root) for root in roots.values()):
    files = {split: _image_files(root) for split, root in roots.items()}
    for split, paths in files.items():
      if not paths:
        raise UserError(f'{roots[split]} holds no images ({", ".join(EXTENSIONS)}): put some '
                        'there, or set --config.data.data_dir to another directory')
    return files
  if not 0 < hold_out < 1:
    raise UserError(f'{data_dir} has no train and test subdirectories, and of its files a '
                    f'fraction between 0 and 1 can be held out, not {hold_out}: '
                    'set --config.data.hold_out')
  paths = _image_files(data_dir)
  if len(paths) < 2:
    raise UserError(f'{data_dir} holds {len(paths)} images ({", ".join(EXTENSIONS)}), and both '
                    'splits need one: set --config.data.data_dir to a directory of images')
  paths.sort(key=lambda path: hashlib.sha256(
      os.path.relpath(path, data_dir).replace(os.sep, '/').encode('utf-8', 'surrogateescape')
  ).digest())
  count = min(max(round(hold_out * len(paths)), 1), len(paths) - 1)
  return {'train': paths[count:], 'test': paths[:count]}


def _image_files(root):
  """Paths of image files below `root`, sorted; no hidden ones (macOS writes ._NAME.png)."""
  return sorted(os.path.join(directory, name) for directory, _, names in os.walk(root)
                for name in names
                if name.lower().endswith(EXTENSIONS) and not name.startswith('.'))


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
  from PIL import Image
  try:
    return Image.open(path)
  except Exception as error:  # PIL raises almost anything on a damaged file.
    raise _unreadable(path, error) from error


def _unreadable(path, error):
  """The `UserError` for an exception that PIL has raised."""
  return UserError(f'{path} cannot be read as an image ({reason(error)}): mend or remove it')


def _header(path, image_size, crop=0):
  """(PIL mode, upright (width, height)) of a file, without decoding its pixels.

  Raises:
    UserError: unreadable, transparent, deeper than 8 bits, of several frames, or smaller than
      `image_size` or `crop`.
  """
  with _open(path) as image:
    try:
      size = headers.upright_size(image, path)
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


def _pixels(path, shape, image_size):
  """Decodes one file to uint8 [H, W, C] = `shape`, and to `headers.others`.

  Raises:
    UserError: damaged, or changed since the directory was opened.
  """
  from PIL import Image, ImageOps
  with _open(path) as image:
    try:
      image.load()
      others = headers.others(image)
      image = ImageOps.exif_transpose(image).convert('L' if shape[2] == 1 else 'RGB')
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

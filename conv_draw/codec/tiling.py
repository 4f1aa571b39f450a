"""Images of any size as tiles of one size, a few of which are in memory at a time."""

import math
from typing import NamedTuple

import numpy as np

# Pixels in a call of the network: an image of at most that many is coded whole by default, a larger
# one in tiles. Models with a large stride compute less per pixel.
MAX_PIXELS, MAX_PIXELS_LARGE_STRIDE = 2**18, 2**20
LARGE_STRIDE = 4


class Tiling(NamedTuple):
  """The division of an image into rows x columns tiles as equal as can be, the last ones padded."""

  size: tuple[int, int]  # (H, W) of the image, pixels
  tile_size: tuple[int, int]  # (h, w) of every tile, pixels
  max_pixels: int = MAX_PIXELS  # in a call of the network

  @property
  def grid(self):
    """(rows, columns)."""
    return tuple(-(-n // t) for n, t in zip(self.size, self.tile_size, strict=True))

  @property
  def count(self):
    rows, columns = self.grid
    return rows * columns

  @property
  def batch(self):
    """Tiles in a call of the network."""
    h, w = self.tile_size
    return max(1, min(self.count, self.max_pixels // (h * w)))

  def chunks(self):
    """Ranges of tile numbers, of `batch` tiles or, at the end, fewer."""
    for start in range(0, self.count, self.batch):
      yield range(start, min(start + self.batch, self.count))

  def slices(self, number):
    """(slice, slice) of a tile in the image; tiles are numbered row by row."""
    (h, w), (_, columns) = self.tile_size, self.grid
    top, left = number // columns * h, number % columns * w
    return slice(top, min(top + h, self.size[0])), slice(left, min(left + w, self.size[1]))

  def cut(self, image, numbers):
    """[batch, h, w, C] tiles, padded with their last pixels; the batch with its last tile."""
    tiles = []
    for number in numbers:
      part = image[self.slices(number)]
      missing = [(0, n - have) for n, have in zip(self.tile_size, part.shape[:2], strict=True)]
      tiles.append(np.pad(part, (*missing, (0, 0)), 'edge'))
    return np.stack(tiles + [tiles[-1]] * (self.batch - len(tiles)))

  def sizes(self, numbers):
    """int32 [batch, 2]: (height, width) of the image in these tiles, 0 for the batch's padding."""
    sizes = np.zeros((self.batch, 2), np.int32)
    for row, number in enumerate(numbers):
      sizes[row] = [s.stop - s.start for s in self.slices(number)]
    return sizes

  def valid(self, numbers):
    """Bool [len(numbers), h, w]: which pixels of these tiles are in the image."""
    return valid_mask(self.tile_size, self.sizes(numbers)[: len(numbers)])

  def paste(self, image, tiles, numbers):
    """Writes tiles [>= len(numbers), h, w, C] to their places in `image`."""
    for tile, number in zip(tiles, numbers, strict=False):
      target = image[self.slices(number)]
      target[...] = tile[: target.shape[0], : target.shape[1]]

  def squared_error(self, image, tiles, numbers):
    """The sum of squared differences between tiles, as of `paste`, and `image`."""
    total = 0.0
    for tile, number in zip(tiles, numbers, strict=False):
      part = image[self.slices(number)]
      total += ((part.astype(np.float64) - tile[: part.shape[0], : part.shape[1]]) ** 2).sum()
    return total


def valid_mask(tile_size, sizes):
  """Bool [n, h, w] of tiles of (h, w) = `tile_size` that hold int [n, 2] `sizes` of an image."""
  rows, columns = np.indices(tile_size)
  return (rows < sizes[:, 0, None, None]) & (columns < sizes[:, 1, None, None])


def max_pixels(stride):
  """Pixels in a call of the network of a model whose first layer has that stride."""
  return MAX_PIXELS_LARGE_STRIDE if stride >= LARGE_STRIDE else MAX_PIXELS


def tiling(size, tile_side, max_pixels=MAX_PIXELS):
  """`Tiling` of images of (H, W) into tiles of at most that side, in pixels; 0: the whole image."""
  if not tile_side:
    return Tiling(tuple(size), tuple(size), max_pixels)
  counts = [-(-n // tile_side) for n in size]
  tile_size = tuple(-(-n // k) for n, k in zip(size, counts, strict=True))
  return Tiling(tuple(size), tile_size, max_pixels)


def default_tile_side(size, max_pixels=MAX_PIXELS):
  """0 for images that can be coded whole, else the side of the largest square tiles."""
  return 0 if size[0] * size[1] <= max_pixels else math.isqrt(max_pixels)


def padded_size(size):
  """(H, W) of the arrays for tiles of a size: each side is at most 12 % longer, or has 8 pixels."""
  return tuple(-(-n // unit) * unit
               for n, unit in ((n, max(8, (1 << (n - 1).bit_length()) // 16)) for n in size))


def part_of(progress, number, count):
  """`progress` of one of `count` passes over an image; None of None."""
  return progress and (lambda done, total: progress(number * total + done, count * total))

"""Images of any size as tiles of one size: coding takes the memory of some of them at a time."""

import math
from typing import NamedTuple

import numpy as np

# Pixels that the network sees at once: an image of no more is coded whole unless asked otherwise,
# a larger one in tiles. With few cells to the pixel there may be more of them.
AT_ONCE, AT_ONCE_COARSE = 2**18, 2**20
COARSE = 4  # the least stride of a model for which there may


class Tiling(NamedTuple):
  """How an image is cut: into rows x columns tiles as equal as can be, the last ones padded."""

  size: tuple[int, int]  # (H, W) of the image, pixels
  tile_size: tuple[int, int]  # (h, w) of every tile, pixels
  at_once: int = AT_ONCE  # of `at_once`

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
    """How many tiles the network sees at once."""
    h, w = self.tile_size
    return max(1, min(self.count, self.at_once // (h * w)))

  def chunks(self):
    """Lists of tile numbers, `batch` of them or, at the end, fewer."""
    for start in range(0, self.count, self.batch):
      yield range(start, min(start + self.batch, self.count))

  def slices(self, number):
    """Where in the image a tile is: (slice, slice); tiles are numbered row by row."""
    (h, w), (_, columns) = self.tile_size, self.grid
    top, left = number // columns * h, number % columns * w
    return slice(top, min(top + h, self.size[0])), slice(left, min(left + w, self.size[1]))

  def cut(self, image, numbers):
    """[batch, h, w, C] tiles, their padding and that of the batch repeating what is there."""
    tiles = []
    for number in numbers:
      part = image[self.slices(number)]
      missing = [(0, n - have) for n, have in zip(self.tile_size, part.shape[:2], strict=True)]
      tiles.append(np.pad(part, (*missing, (0, 0)), 'edge'))
    return np.stack(tiles + [tiles[-1]] * (self.batch - len(tiles)))

  def inside(self, numbers):
    """[len(numbers), h, w] bool: what of these tiles is image."""
    inside = np.zeros((len(numbers), *self.tile_size), bool)
    for tile, number in zip(inside, numbers, strict=True):
      rows, columns = self.slices(number)
      tile[: rows.stop - rows.start, : columns.stop - columns.start] = True
    return inside

  def paste(self, image, tiles, numbers):
    """Writes tiles [>= len(numbers), h, w, C] to where they belong in `image`."""
    for tile, number in zip(tiles, numbers, strict=False):
      target = image[self.slices(number)]
      target[...] = tile[: target.shape[0], : target.shape[1]]

  def squared_error(self, image, tiles, numbers):
    """Between tiles as of `paste` and where they belong in `image`: the sum over values."""
    total = 0.0
    for tile, number in zip(tiles, numbers, strict=False):
      part = image[self.slices(number)]
      total += ((part.astype(np.float64) - tile[: part.shape[0], : part.shape[1]]) ** 2).sum()
    return total


def at_once(stride):
  """Pixels that a network sees at once, of a model whose first layer has that stride."""
  return AT_ONCE_COARSE if stride >= COARSE else AT_ONCE


def tiling(size, tile_side, at_once=AT_ONCE):
  """`Tiling` of images of (H, W) into tiles of at most that side, pixels; 0: the whole image."""
  if not tile_side:
    return Tiling(tuple(size), tuple(size), at_once)
  counts = [-(-n // tile_side) for n in size]
  tile_size = tuple(-(-n // k) for n, k in zip(size, counts, strict=True))
  return Tiling(tuple(size), tile_size, at_once)


def default_tile_side(size, at_once=AT_ONCE):
  """0 for images that can be coded whole, else of square tiles of as many pixels as can be."""
  return 0 if size[0] * size[1] <= at_once else math.isqrt(at_once)

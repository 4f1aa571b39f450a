"""Grids of small images as PNG files."""

import io
import os

import numpy as np
from PIL import Image

from conv_draw.machine.files import write_file

PAPERS_RATES = (0.05, 0.1, 0.15, 0.2, 0.4, 0.8)  # bits/dim of the paper's figure 3
MAX_EXACT = 2**14  # pixels of a WebP file that is lossless
WEBP_QUALITY = 75
MIN_SIDE = 64  # small images are enlarged by a whole factor to at least this many pixels


def grid_of(images, columns):
  """[N, H, W, C] -> [rows, columns, H, W, C]; what is left of the last row is white."""
  rows = -(-len(images) // columns)
  missing = rows * columns - len(images)
  images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=255)
  return images.reshape(rows, columns, *images.shape[1:])


def picture(grid):
  """[rows, columns, H, W, C] uint8 -> one uint8 picture, a thin line between the images."""
  rows, columns, height, _, channels = grid.shape
  scale = max(1, MIN_SIDE // height)
  grid = grid.repeat(scale, 2).repeat(scale, 3)
  grid = np.pad(grid, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=128)
  return grid.transpose(0, 2, 1, 3, 4).reshape(
      rows * grid.shape[2], columns * grid.shape[3], channels)


def save_grid(path, grid):
  """Writes [rows, columns, H, W, C] uint8 images as one PNG."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  write_file(path, png(picture(grid)))


def png(pixels):
  """A PNG file's bytes of [H, W, C] uint8."""
  data = io.BytesIO()
  _image(pixels).save(data, 'PNG')
  return data.getvalue()


def webp(pixels, most):
  """A WebP file's bytes of [H, W, C] uint8, with at most `most` pixels a side; small ones exact."""
  data, image = io.BytesIO(), _image(pixels)
  exact = image.width * image.height <= MAX_EXACT
  image.thumbnail((most, most), Image.Resampling.LANCZOS)
  image.save(data, 'WEBP', lossless=exact, quality=WEBP_QUALITY)
  return data.getvalue()


def _image(pixels):
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def to_bytes(images, grey_levels):
  """Values 0..grey_levels-1 as 0..255."""
  return np.rint(images * (255 / (grey_levels - 1))).astype(np.uint8)

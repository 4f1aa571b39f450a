"""Rows of images with labels on the left, at print quality."""

import io

import matplotlib

from conv_draw.report import pictures

matplotlib.use('Agg')  # no display
from matplotlib import pyplot as plt

DPI = 300
WIDTH = 6.5  # inches, of a printed page
IMAGE_WIDTH = 0.7  # inches, at most


def rows(grid, labels):
  """A PNG file's bytes of images [rows, columns, H, W, C] uint8 with a label for each row."""
  pixels = pictures.picture(grid)
  inches = min(WIDTH * 0.85, grid.shape[1] * IMAGE_WIDTH)
  margin = WIDTH * 0.15 if any(labels) else 0
  height = inches * pixels.shape[0] / pixels.shape[1]
  figure = plt.figure(figsize=(inches + margin, height))
  axes = figure.add_axes([margin / (inches + margin), 0, inches / (inches + margin), 1])
  axes.imshow(
      pixels[..., 0] if grid.shape[-1] == 1 else pixels, cmap='gray', vmin=0, vmax=255,
      interpolation='nearest', aspect='auto')
  axes.set_axis_off()
  each = pixels.shape[0] / len(labels)
  size = min(7, 0.35 * 72 * height / len(labels))
  for i, label in enumerate(labels):
    axes.text(-0.01 * pixels.shape[1], (i + 0.5) * each, label, ha='right', va='center',
              fontsize=size, linespacing=1.1)
  return png(figure)


def png(figure):
  """A PNG file's bytes of a matplotlib figure, which it closes."""
  data = io.BytesIO()
  figure.savefig(data, format='png', dpi=DPI, bbox_inches='tight', pad_inches=0.03)
  plt.close(figure)
  return data.getvalue()

"""The canvas's mean in whole grey values, the same on every machine: what whole-number pixels see.

A canvas differs a little between machines, by less than a whole grey value but now and then across
the edge between two. So the encoder writes which one it is, where that is in doubt.
"""

import math

import numpy as np

from conv_draw.codec.entropy.stream import Undecodable
from conv_draw.codec.pixels import MEAN_ERROR


class Picture:
  """Of an image, filled in tile by tile."""

  def __init__(self, tiling, channels):
    """For images of a `tiles.Tiling`, C = `channels` of the model."""
    self._tiling = tiling
    self.image = np.zeros((*tiling.size, channels), np.uint8)

  def encode(self, sink, network, canvas, numbers):
    """Of the tiles `numbers`, whose canvas is [B, H, W, R]; what is in doubt goes to a `Writer`."""
    inside, position = self._positions(network, canvas, numbers)
    error = math.sqrt(network.model.iterations) * MEAN_ERROR * 255
    self._fill(numbers, inside, sink.put_nearest(position, error))

  def decode(self, source, network, canvas, numbers):
    """Undoes `encode`: from a `Reader`."""
    inside, position = self._positions(network, canvas, numbers)
    values = source.take_nearest(position)
    if len(values) and not 0 <= values.min() <= values.max() <= 255:
      raise Undecodable('the canvas is out of range')
    self._fill(numbers, inside, values)

  def _positions(self, network, canvas, numbers):
    inside = self._tiling.inside(numbers)
    mean = np.asarray(network.model.pixels.mean(canvas[: len(inside)]), np.float64)
    return inside, 255 * np.clip(mean[inside], 0, 1).ravel()

  def _fill(self, numbers, inside, values):
    tiles = np.zeros((*inside.shape, self.image.shape[2]), np.uint8)
    tiles[inside] = values.reshape(-1, self.image.shape[2])
    self._tiling.paste(self.image, tiles, numbers)

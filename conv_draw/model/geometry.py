"""Sizes: how large the maps of each layer are, and which cells below make one of its cells."""

from typing import Any, NamedTuple

from conv_draw.model import layers


class Geometry(NamedTuple):
  """Where one layer lives: what its maps look like and how to convolve them."""

  grid: Any  # of `layers.grid`
  size: tuple[int, int]  # (h, w) of its maps
  block: tuple[int, int]  # (rows, columns) of the cells below that make one of its cells
  below: tuple[int, int]  # (h, w) of the maps below, or (H, W) of the image

  def read(self, x):
    """[B, h, w, C] -> ready for `grid.convolve`."""
    return self.grid.transform(self.grid.enter(x))

  def maps(self, terms):
    """[B, h, w, C], float32, of a sum of convolutions, as `grid.convolve` takes them."""
    return self.grid.leave(self.grid.convolve(terms))


def sizes(all_layers, image_size):
  """(h, w) of the image and of each layer's maps, the layer nearest the pixels first.

  Args:
    all_layers: `layers.Layer`s.
    image_size: (H, W); None is enough where no layer is fully connected, and gives Nones.
  """
  if image_size is None:
    return [None] * (1 + len(all_layers))
  found = [tuple(image_size)]
  for layer in all_layers:
    found.append(layer.size(found[-1]))
  return found


def of(all_layers, kernel, image_kernel, image_size, dtype):
  """`Geometry` of each layer, the layer nearest the pixels first.

  Args:
    all_layers: `layers.Layer`s.
    kernel: side of the convolutions' kernels, odd.
    image_kernel: side of those between the image and the first layer.
    image_size: (H, W).
    dtype: of the convolutions' operands.
  """
  found = sizes(all_layers, image_size)
  grids = []
  for i, (layer, size) in enumerate(zip(all_layers, found[1:], strict=True)):
    between = kernel if i else image_kernel
    side = max(kernel, layers.strided_side(between, layer.stride)) if layer.stride else 1
    grids.append(layers.grid(size, side, dtype))
  return tuple(
      Geometry(grid, size, layer.block(below), below)
      for grid, layer, below, size in zip(grids, all_layers, found[:-1], found[1:], strict=True))

"""Sizes: how large the maps of each layer are, and which cells below make one of its cells."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from conv_draw.model import layers


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Geometry:
  """Where one layer lives: the size of its maps and how to convolve them. Static under jit."""

  grid: Any  # of `layers.grid`
  size: tuple[int, int]  # (h, w) of its maps
  block: tuple[int, int]  # (rows, columns) of the cells below that make one of its cells
  below: tuple[int, int]  # (h, w) of the maps below, or (H, W) of the image

  def read(self, x: jax.Array) -> Any:
    """[B, h, w, C] -> ready for `grid.convolve`."""
    return self.grid.transform(self.grid.enter(x))

  def valid(self) -> jax.Array:
    """[1, h, w, s*s, 1]: 1 on the cells below, 0 on the padding where the stride does not divide.

    The padding reads as zero, like all that lies outside an image.
    """
    return layers.space_to_depth(jnp.ones((1, *self.below, 1)), self.block)[..., None]


def sizes(all_layers: Sequence[layers.Layer], image_size: Sequence[int] | None) -> list:
  """(h, w) of the image and of each layer's maps, the layer nearest the pixels first.

  Args:
    all_layers: the layer nearest the pixels first.
    image_size: (H, W); None is enough where no layer is fully connected, and gives Nones.
  """
  if image_size is None:
    return [None] * (1 + len(all_layers))
  found = [tuple(image_size)]
  for layer in all_layers:
    found.append(layer.size(found[-1]))
  return found


def of(all_layers: Sequence[layers.Layer], kernel: int, image_kernel: int,
       image_size: Sequence[int], dtype: Any, winograd: bool = True) -> tuple[Geometry, ...]:
  """`Geometry` of each layer, the layer nearest the pixels first.

  Args:
    all_layers: the layer nearest the pixels first.
    kernel: side of the convolutions' kernels, odd.
    image_kernel: side of those between the image and the first layer.
    image_size: (H, W).
    dtype: of the convolutions' operands.
    winograd: as of `layers.grid`.
  """
  found = sizes(all_layers, image_size)
  grids = []
  for i, (layer, size) in enumerate(zip(all_layers, found[1:], strict=True)):
    between = kernel if i else image_kernel
    side = max(kernel, layers.strided_side(between, layer.stride)) if layer.stride else 1
    grids.append(layers.grid(size, side, dtype, winograd))
  return tuple(
      Geometry(grid, size, layer.block(below), below)
      for grid, layer, below, size in zip(grids, all_layers, found[:-1], found[1:], strict=True))

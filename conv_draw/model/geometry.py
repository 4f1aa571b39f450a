"""The sizes of each layer's maps, and the block of cells below that makes one of its cells."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from conv_draw.errors import UserError
from conv_draw.model import layers


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Geometry:
  """The sizes of one layer and the convolutions of its maps. Static under jit."""

  grid: Any  # `layers.grid` of its maps
  size: tuple[int, int]  # (h, w) of its maps
  block: tuple[int, int]  # (rows, columns) of the cells below that make one of its cells
  below: tuple[int, int]  # (h, w) of the maps below, or (H, W) of the image

  def read(self, x: jax.Array) -> Any:
    """Maps [B, h, w, C], ready for `grid.convolve`."""
    return self.grid.transform(self.grid.from_maps(x))

  def split_cells(self, x: jax.Array) -> jax.Array:
    """[B, h, w, s*s*C] -> [B, h, w, s*s, C]: the inverse of `layers.merge_cells`."""
    return x.reshape(*x.shape[:3], self.block[0] * self.block[1], -1)

  def to_image(self, x: jax.Array) -> jax.Array:
    """[B, h, w, s*s, C] -> [B, H, W, C]."""
    return layers.depth_to_space(layers.merge_cells(x), self.block, self.below)

  def valid(self) -> jax.Array:
    """The valid mask [1, h, w, s*s, 1]: 1 in the maps below, 0 on padding to whole cells."""
    return layers.space_to_depth(jnp.ones((1, *self.below, 1)), self.block)[..., None]


def sizes(all_layers: Sequence[layers.Layer], image_size: Sequence[int] | None) -> list:
  """[(H, W) of the image, (h, w) of each layer's maps, ...].

  Args:
    all_layers: the layer nearest the pixels first.
    image_size: (H, W), or None of a model without fully connected layers: all sizes are then None.
  """
  if image_size is None:
    return [None] * (1 + len(all_layers))
  found = [tuple(image_size)]
  for layer in all_layers:
    found.append(layer.size(found[-1]))
  return found


def check_size(all_layers: Sequence[layers.Layer], image_size: Sequence[int] | None,
               size: Sequence[int] | None) -> None:
  """Raises a UserError unless images of `size` fit a model for `image_size`.

  A model without fully connected layers fits images of any size.
  """
  if any(not layer.stride for layer in all_layers) and (
      size is None or tuple(size) != tuple(image_size or ())):
    raise UserError(
        f'fully connected layers (stride 0) fit images of one size: the model has '
        f'image_size={image_size}, and the images are {size}')


def of(all_layers: Sequence[layers.Layer], kernel: int, image_kernel: int,
       image_size: Sequence[int], dtype: Any, winograd: bool = True) -> tuple[Geometry, ...]:
  """`Geometry` of each layer, the layer nearest the pixels first.

  Args:
    all_layers: the layer nearest the pixels first.
    kernel: side of the convolutions' kernels, odd.
    image_kernel: side of the kernels between the image and the first layer.
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

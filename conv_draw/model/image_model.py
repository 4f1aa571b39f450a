"""What the models of images share: float32 parameters, checked arguments, x, and L^x (11)."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors
from jax.typing import ArrayLike

from conv_draw.errors import UserError
from conv_draw.model import arguments
from conv_draw.model.noise import image_keys


class Float32Parameters:
  """A base class of Flax modules that compute in float32, whatever the type of their parameters.

  Parameters may be bfloat16, or arrays of NumPy. Name this class before `nn.Module` among the
  bases. Submodules convert their own parameters.
  """

  def param(self, *args, **kwargs):
    """`nn.Module.param`, as a float32 array of JAX."""
    return jnp.asarray(super().param(*args, **kwargs), jnp.float32)

  def apply(self, variables, *args, **kwargs):
    """`nn.Module.apply`.

    Raises:
      UserError: `variables` are not parameters, or those of another model.
    """
    try:
      return super().apply(arguments.params(variables), *args, **kwargs)
    except (errors.ScopeParamNotFoundError, errors.ScopeParamShapeError,
            errors.ScopeCollectionNotFound) as e:
      what = str(e).partition(' (http')[0]
      raise UserError(
          f"params: they are not this model's ({what}): give what its init returns") from e


class ImageModel(Float32Parameters):
  """A base class of models p(x, z) of images.

  A subclass has `channels` C, the distribution `pixels` of p(x | z) and T = `iterations`.
  """

  @property
  def canvas_pixels(self) -> Any:
    """The pixel distribution whose parameters the canvas holds."""
    return self.pixels

  def check_images(self, images: arguments.Array) -> None:
    """Raises a UserError unless `images` are [B, H, W, C] uint8 in 0..grey_levels-1."""
    arguments.images(images, 'BHWC', self.pixels.grey_levels, 'images', self.channels)

  def unit_interval(self, images: arguments.Array) -> jax.Array:
    """x in [0, 1], float32, of uint8 images in 0..grey_levels-1."""
    self.check_images(images)
    return images.astype(jnp.float32) / (self.pixels.grey_levels - 1)

  def reconstruction_nats(self, images: arguments.Array, inference: Any) -> jax.Array:
    """[B] L^x (11) of images [B, H, W, C] uint8, given their `Inference`."""
    return self.pixels.cost(self.unit_interval(images), inference.canvas).sum((1, 2, 3))


def inference_keys(
    model: ImageModel, key: ArrayLike, images: arguments.Array, temperature: ArrayLike,
) -> jax.Array:
  """[B] keys, one per image, once the arguments of a model's `__call__` have been checked."""
  model.check_images(images)
  arguments.temperature(temperature)
  return image_keys(key, len(images))


def reconstruct_arguments(
    model: ImageModel, key: ArrayLike, images: arguments.Array, groups: ArrayLike,
    temperature: ArrayLike, posterior_temperature: ArrayLike, generation_key: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(groups, keys, generation keys), [B] each, of the checked arguments of `reconstruct`."""
  keys = inference_keys(model, key, images, temperature)
  arguments.temperature(posterior_temperature, 'posterior_temperature')
  groups = jnp.broadcast_to(
      arguments.groups(groups, len(images), model.iterations), images.shape[:1])
  return groups, keys, keys if generation_key is None else image_keys(generation_key, len(images))


def sample_arguments(
    key: ArrayLike, count: int, image_size: Sequence[int], temperature: ArrayLike,
) -> tuple[jax.Array, tuple[int, int]]:
  """(keys [count], (H, W)) of the checked arguments of a model's `sample`."""
  arguments.temperature(temperature)
  arguments.number(count, 'count', 1, math.inf, whole=True)
  image_size = arguments.size(image_size, 'HW', 'image_size')
  return image_keys(key, count), image_size

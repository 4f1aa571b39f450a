"""The local autoregressive model on the canvas of `ConvDraw` or `Vae`, or without latents."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_pixels import LocalPixels, View
from conv_draw.model import arguments, image_model
from conv_draw.model.noise import BEYOND, image_keys
from conv_draw.model.weights import GENERATION, Role

# `noise` numbers: the pixels that training scores, and the values of drawn pixels.
PLACES, PIXELS = BEYOND, BEYOND + 1


class Inference(NamedTuple):
  """The result of inference on B images; the first three fields are `conv_draw.Inference`'s."""

  canvas: jax.Array  # [B, H, W, R] r_T, which the pixels' network reads; R = 0 without latents
  kl_nats: jax.Array  # [T, L, B]
  log_ratio_nats: jax.Array  # [B]
  pixel_nats: jax.Array  # [B] -log p(x | z)
  canvas_nats: jax.Array | None  # [B] L^x (11) of the canvas alone; None without latents


class LocalDraw(image_model.ImageModel, nn.Module):
  """p(x, z) = p(z) prod_i p(x_i | x_N(i), r_T), with p(z) and the canvas r_T of another model.

  The methods are those of that model, with the same arguments, and the methods that draw pixels.

  Attributes:
    draw: `ConvDraw` or `Vae`; None: no latents.
    head: `LocalPixels`, or, without latents, `IntegerPixels`.
  """

  draw: Any
  head: LocalPixels | IntegerPixels

  embedded = False

  @property
  def channels(self):
    return self.head.channels

  @property
  def pixels(self):
    """The distribution of a pixel given its neighbours."""
    return self.head.pixels

  @property
  def canvas_pixels(self):
    """The pixel distribution whose parameters the canvas holds; None without latents."""
    return self.draw and self.draw.pixels

  @property
  def iterations(self):
    return self.draw.iterations if self.draw else 0

  def __call__(
      self, key: ArrayLike, images: arguments.Array, temperature: ArrayLike = 1.0, places: int = 0,
  ) -> Inference:
    """Infers the latents of images, z_t ~ q_t at every iteration, and scores the pixels.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      temperature: scales the posterior's standard deviation; 0 infers with posterior means.
      places: N: N pixels of each image, drawn from its key, give an unbiased estimate of its cost;
        0: all pixels are scored.
    Returns:
      `Inference`.
    """
    keys = image_model.inference_keys(self, key, images, temperature)
    arguments.number(places, 'places', 0, math.inf, whole=True)
    (b, height, width), canvas_nats = images.shape[:3], None
    if self.draw:
      inference = self.draw(keys, images, temperature)
      canvas_nats = self.draw.reconstruction_nats(images, inference)
    else:
      inference = self._no_canvas(b, (height, width)), jnp.zeros((0, 1, b)), jnp.zeros(b)
    view = self._view(inference[0])
    if places:
      at = jax.vmap(lambda key: jax.random.randint(
          jax.random.fold_in(key, PLACES), (places,), 0, height * width))(keys)
      cost = self.head.cost_at(images, at // width, at % width, *view).sum((1, 2))
      cost *= height * width / places
    else:
      cost = self.head.cost(images, *view).sum((1, 2, 3))
    return Inference(*inference, cost, canvas_nats)

  def reconstruction_nats(self, images: arguments.Array, inference: Inference) -> jax.Array:
    """[B] -log p(x | z) of images, given their `Inference`."""
    del images
    return inference.pixel_nats

  def role(self, names: Sequence[str]) -> Role:
    """The `Role` of a parameter, by its path below 'params'."""
    if names[0] == 'draw':
      return self.draw.role(names[1:])._replace(matrix=None, subset='draw')
    hidden = names[-1].endswith('_kernel') and names[-1] != 'last_kernel'
    return Role(GENERATION, matrix=((0,), 1) if hidden else None, subset='head')

  def reconstruct(
      self, key: ArrayLike, images: arguments.Array, groups: ArrayLike,
      temperature: ArrayLike = 1.0, posterior_temperature: ArrayLike = 1.0,
      generation_key: ArrayLike | None = None,
  ) -> jax.Array:
    """The canvas [B, H, W, R] that `draw` reconstructs; R = 0 without latents."""
    given = groups, temperature, posterior_temperature, generation_key
    if self.draw:
      return self.draw.reconstruct(key, images, *given)
    image_model.reconstruct_arguments(self, key, images, *given)
    return self._no_canvas(len(images), images.shape[1:3])

  def sample(
      self, key: ArrayLike, count: int, image_size: Sequence[int], temperature: ArrayLike = 1.0,
  ) -> jax.Array:
    """The canvas [B, H, W, R] that `draw` samples; R = 0 without latents."""
    if self.draw:
      return self.draw.sample(key, count, image_size, temperature)
    keys, image_size = image_model.sample_arguments(key, count, image_size, temperature)
    return self._no_canvas(len(keys), image_size)

  def uniforms(self, key: ArrayLike, canvas: jax.Array) -> jax.Array:
    """[B, H, W, U] draws of U(0, 1) for `draw_pixels`, of images with these canvases."""
    keys = image_keys(key, len(canvas))
    return jax.vmap(lambda key: jax.random.uniform(
        jax.random.fold_in(key, PIXELS), (*canvas.shape[1:3], self.head.uniforms), minval=1e-6,
        maxval=1 - 1e-6))(keys)

  def draw_pixels(self, uniforms: jax.Array, canvas: jax.Array, images: jax.Array,
                  first: ArrayLike, last: ArrayLike) -> jax.Array:
    """`LocalPixels.draw`, the pixels of wavefronts first..last-1, given canvases [B, H, W, R]."""
    return self.head.draw(uniforms, images, first, last, *self._view(canvas))

  def _view(self, canvas):
    """[`View` of a canvas [B, H, W, R]]; [] without latents."""
    return [View(self.canvas_pixels.mean(canvas), canvas)] if self.draw else []

  @staticmethod
  def _no_canvas(batch, image_size):
    return jnp.zeros((batch, *image_size, 0))

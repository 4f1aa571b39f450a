"""A model of this package whose canvas feeds `local_pixels`; or these alone, without latents."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_pixels import LocalPixels
from conv_draw.model import arguments
from conv_draw.model.noise import BEYOND, image_keys
from conv_draw.model.weights import GENERATION, Float32Parameters, Role

# Numbers of randomness: which pixels are scored in training, and the values of pixels.
PLACES, PIXELS = BEYOND, BEYOND + 1


class Inference(NamedTuple):
  """What the model says of B images; the first three are `conv_draw.Inference`'s."""

  canvas: jax.Array  # [B, H, W, R] r_T, which the local pixels read; R = 0 without latents
  kl_nats: jax.Array  # [T, L, B]
  log_ratio_nats: jax.Array  # [B]
  pixel_nats: jax.Array  # [B] -log p(x | z)
  canvas_nats: jax.Array | None  # [B] L^x (11) of the canvas alone; None without latents


class LocalDraw(Float32Parameters, nn.Module):
  """p(x, z) = p(z) prod_i p(x_i | x_N(i), r_T), with p(z) and the canvas r_T of another model.

  The methods are that model's, with the same meaning, and those that draw pixels.

  Attributes:
    draw: `ConvDraw` or `Vae`; None for local pixels alone, which have no latents.
    head: `LocalPixels` or `IntegerPixels`.
  """

  draw: Any
  head: LocalPixels | IntegerPixels

  @property
  def channels(self):
    return self.head.channels

  @property
  def pixels(self):
    """The distribution of a pixel."""
    return self.head.pixels

  @property
  def canvas_pixels(self):
    """What the canvas itself says of pixels, as its model does; None without one."""
    return self.draw and self.draw.pixels

  embedded = False

  @property
  def iterations(self):
    return self.draw.iterations if self.draw else 0

  def __call__(self, key, images, temperature=1.0, places=0):
    """Infers: z_t ~ q_t at every iteration; and scores the pixels.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      temperature: scales the posterior's standard deviation; 0 infers with posterior means.
      places: N, so many pixels of each image are scored, drawn from its key, and their cost
        estimates the image's without bias; 0: all.
    Returns:
      `Inference`, with the canvas's own cost beside that of the pixels.
    """
    self._check_images(images)
    arguments.temperature(temperature)
    arguments.number(places, 'places', 0, math.inf, whole=True)
    keys = image_keys(key, len(images))
    inference = self._infer(keys, images, temperature)
    canvas, canvas_nats = inference[0], None
    view = self.view(canvas)
    if self.draw:
      cost = self.canvas_pixels.cost(self.unit_interval(images), canvas)
      canvas_nats = cost.sum((1, 2, 3))
    if places:
      height, width = images.shape[1:3]
      at = jax.vmap(lambda key: jax.random.randint(
          jax.random.fold_in(key, PLACES), (places,), 0, height * width))(keys)
      cost = self.head.cost_at(images, at // width, at % width, view).sum((1, 2))
      cost *= height * width / places
    else:
      cost = self.head.cost(images, view).sum((1, 2, 3))
    return Inference(*inference, cost, canvas_nats)

  def reconstruction_nats(self, images, inference):
    """[B] -log p(x | z) of images, given their `Inference`."""
    del images
    return inference.pixel_nats

  def role(self, names):
    """The `Role` of a parameter, by its path below 'params'."""
    if names[0] == 'draw':
      return self.draw.role(names[1:])._replace(matrix=None, subset='draw')
    hidden = names[-1].endswith('_kernel') and names[-1] != 'last_kernel'
    return Role(GENERATION, matrix=((0,), 1) if hidden else None, subset='head')

  def _check_images(self, images):
    arguments.images(images, 'BHWC', self.pixels.grey_levels, 'images', self.channels)

  def _infer(self, keys, images, temperature):
    if self.draw:
      return self.draw(keys, images, temperature)
    b = len(images)
    return jnp.zeros((*images.shape[:3], 0)), jnp.zeros((0, 1, b)), jnp.zeros(b)

  def reconstruct(
      self, key, images, groups, temperature=1.0, posterior_temperature=1.0, generation_key=None):
    """The canvas [B, H, W, R], as the model's that it is of; R = 0 without one."""
    if self.draw:
      return self.draw.reconstruct(
          key, images, groups, temperature, posterior_temperature, generation_key)
    self._check_images(images)
    arguments.groups(groups, len(images), 0)
    return jnp.zeros((*images.shape[:3], 0))

  def sample(self, key, count, image_size, temperature=1.0):
    """The canvas [B, H, W, R], as the model's that it is of; R = 0 without one."""
    if self.draw:
      return self.draw.sample(key, count, image_size, temperature)
    count, image_size = arguments.count(count), arguments.size(image_size, 'HW', 'image_size')
    return jnp.zeros((count, *image_size, 0))

  def view(self, canvas):
    """What the local pixels read of a canvas [B, H, W, R]: `local_pixels.View`; None without."""
    return self.head.view(self.canvas_pixels.mean(canvas), canvas) if self.draw else None

  def uniforms(self, key, canvas):
    """[B, H, W, U] draws of U(0, 1), what the pixels of images with these canvases take."""
    keys = image_keys(key, len(canvas))
    return jax.vmap(lambda key: jax.random.uniform(
        jax.random.fold_in(key, PIXELS), (*canvas.shape[1:3], self.head.uniforms), minval=1e-6,
        maxval=1 - 1e-6))(keys)

  def draw_pixels(self, uniforms, canvas, images, first, last):
    """The pixels of wavefronts first..last-1: `LocalPixels.draw`, given canvases [B, H, W, R]."""
    return self.head.draw(uniforms, images, first, last, self.view(canvas))

  def unit_interval(self, images):
    """uint8 values 0..grey_levels-1 -> x in [0, 1], float32."""
    self._check_images(images)
    return images.astype(jnp.float32) / (self.pixels.grey_levels - 1)

"""The variational auto-encoders without recurrence that the paper's Table 1 compares with."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from conv_draw.errors import UserError
from conv_draw.model import arguments, geometry
from conv_draw.model import noise as noise_lib
from conv_draw.model.conv_draw import Inference
from conv_draw.model.latents import DiagonalGaussian, kl_divergence
from conv_draw.model.layers import Layer, add_bias
from conv_draw.model.noise import image_keys, standard_normal
from conv_draw.model.weights import GENERATION, INFERENCE, Float32Parameters, Role


class Vae(Float32Parameters, nn.Module):
  """Variational auto-encoder with layers of latents, each convolutional or fully connected.

  With two fully connected layers it is the VAE / IWAE of Burda et al. (2016), which on 28x28 has
  2 tanh layers of 200 and 100 latents, then 2 of 100 and 50 latents; with convolutional ones it is
  a deep convolutional VAE.

  Deterministic features e_1..e_L are computed from the image upwards, then latents from the top
  down: posterior q_l sees e_l and what the latents above have generated (Sønderby et al., 2016).
  KL(q_l | p_l) is therefore in closed form given the latents above, as convolutional DRAW's is
  given those before. Burda et al. infer upwards instead, each q_l from a sample of the layer below.

  The methods are `ConvDraw`'s, with the same meaning of `key`, and one iteration.

  Attributes:
    channels: C, of the images.
    pixels: a distribution of `model.pixels`.
    features: F, hidden features of the layer nearest the pixels.
    latents: Z, its latent maps.
    stride: between the image and this layer; 0 = fully connected.
    upper: `Layer`s above, the next above first; over a fully connected one only such.
    kernel: side of all kernels, odd.
    depth: hidden layers that compute each layer of latents, and as many that read it.
    image_size: (H, W), fixed if any layer is fully connected; unused otherwise.
    compute_dtype: of linear operations; parameters, latents, likelihoods, canvas and what lies
      between linear operations are float32.
  """

  channels: int
  pixels: Any
  features: int = 64
  latents: int = 12
  stride: int = 2
  upper: tuple[Layer, ...] = ()
  kernel: int = 5
  depth: int = 2
  image_size: tuple[int, int] | None = None
  compute_dtype: jnp.dtype = jnp.float32

  iterations = 1
  embedded = False

  def _check_images(self, images):
    arguments.images(images, 'BHWC', self.pixels.grey_levels, 'images', self.channels)

  def __call__(self, key, images, temperature=1.0):
    """Infers: z_l ~ q_l in every layer.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      temperature: scales the posterior's standard deviation; 0 infers with posterior means.
    Returns:
      `Inference`, its layers from the pixels up.
    """
    self._check_images(images)
    arguments.temperature(temperature)
    keys = image_keys(key, len(images))

    def draw_latent(t, layer, posterior, prior):
      del t, prior
      return posterior.at(temperature * self._noise(keys, layer, posterior))

    return self._generate(images.shape, images, draw_latent)

  def reconstruct(
      self, key, images, groups, temperature=1.0, posterior_temperature=1.0, generation_key=None):
    """Keeps all latents or none.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      groups: int or [B] ints in 0..1: 1 takes z from the posterior, 0 from the prior.
      temperature: of the prior: 1 full variance, 0 its mean.
      posterior_temperature: of the posterior, likewise.
      generation_key: as `key`, for latents from the prior. Default: `key`.
    Returns:
      [B, H, W, R] the canvas.
    """
    self._check_images(images)
    arguments.temperature(temperature)
    arguments.temperature(posterior_temperature, 'posterior_temperature')
    groups = jnp.broadcast_to(
        arguments.groups(groups, len(images), self.iterations), images.shape[:1])
    keys = image_keys(key, len(images))
    others = keys if generation_key is None else image_keys(generation_key, len(images))

    def draw_latent(t, layer, posterior, prior):
      stored = t < groups
      noise = self._noise(jnp.where(stored, keys, others), layer, prior)
      return jnp.where(
          stored[:, None, None, None], posterior.at(posterior_temperature * noise),
          prior.at(temperature * noise))

    return self._generate(images.shape, images, draw_latent).canvas

  def sample(self, key, count, image_size, temperature=1.0):
    """Generates: z_l ~ p_l in every layer.

    Args:
      key: one PRNG key, or [count] of them.
      count: B, how many images.
      image_size: (H, W), any if all layers are convolutional.
      temperature: scales the prior's standard deviation.
    Returns:
      [B, H, W, R] the canvas.
    """
    arguments.temperature(temperature)
    count, image_size = arguments.count(count), arguments.size(image_size, 'HW', 'image_size')
    keys = image_keys(key, count)

    def draw_latent(t, layer, posterior, prior):
      del t, posterior
      return prior.at(temperature * self._noise(keys, layer, prior))

    return self._generate((count, *image_size, self.channels), None, draw_latent).canvas

  @staticmethod
  def role(names):
    """The `Role` of a parameter, by its path below 'params'."""
    return Role(INFERENCE if names[0].startswith(('encoder', 'posterior')) else GENERATION)

  def reconstruction_nats(self, images, inference):
    """[B] L^x (11) of images [B, H, W, C] uint8, given their `Inference`."""
    cost = self.pixels.cost(self.unit_interval(images), inference.canvas)
    return cost.sum((1, 2, 3))

  @property
  def canvas_pixels(self):
    """What the canvas says of pixels: p(x | z) itself, here."""
    return self.pixels

  def unit_interval(self, images):
    """uint8 values 0..grey_levels-1 -> x in [0, 1], float32."""
    self._check_images(images)
    return images.astype(jnp.float32) / (self.pixels.grey_levels - 1)

  @nn.compact
  def _generate(self, shape, images, draw_latent):
    """The generative path, top down, with inference alongside if there are images.

    Args:
      shape: (B, H, W, C) of the images.
      images: uint8 of that shape, or None.
      draw_latent: (t, layer, posterior, prior) -> z_l [B, h, w, Z], as of `recurrence.step`; t is
        0 always. posterior is None without images.
    Returns:
      `Inference`; of the canvas alone, without images.
    """
    b, *image_size, _ = shape
    stack = (Layer(self.features, self.latents, self.stride), *self.upper)
    sizes = self._sizes(stack, tuple(image_size))
    bottom_up = None if images is None else self._encode(stack, images)
    kl_nats, log_ratio_nats = [], 0.0

    above = ()  # what is known of the latents above, for layer i: none, or one [B, h, w, F]
    for i in reversed(range(len(stack))):
      layer = stack[i]
      if above:
        prior = self._gaussian(f'prior_{i}', layer, above)
      else:
        zeros = jnp.zeros((b, *sizes[i + 1], layer.latents))
        prior = DiagonalGaussian(zeros, zeros)
      posterior = None
      if images is not None:
        posterior = self._gaussian(f'posterior_{i}', layer, (bottom_up[i], *above))
      z = draw_latent(0, i, posterior, prior)
      if images is not None:
        everywhere = (1, 2, 3)
        kl_nats.insert(0, kl_divergence(posterior, prior).sum(everywhere))
        log_ratio_nats += (posterior.log_prob(z) - prior.log_prob(z)).sum(everywhere)

      # Burda et al. generate from z_i alone; convolutional layers need not encode `above` again.
      inputs = (z, *above) if layer.stride else (z,)
      hidden = self._hidden(
          f'decoder_{i}', layer, self._linear(f'decoder_{i}_0', layer, layer.features, inputs))
      if i and stack[i - 1].stride:
        hidden = nn.elu(self._write(f'write_{i}', layer, stack[i - 1].features, hidden, sizes[i]))
      above = (hidden,)

    r = self.pixels.canvas_channels(self.channels)
    # One bias for all pixels, or for each where they have weights of their own. Not that of the
    # linear layer, which would be rounded to `compute_dtype`.
    initial_canvas = self.param('initial_canvas', lambda key: jnp.broadcast_to(
        self.pixels.initial_canvas(self.channels), (r,) if self.stride else (*sizes[0], r)))
    written = self._write('write_0', stack[0], r, hidden, sizes[0], SMALL, use_bias=False)
    canvas = add_bias(written, initial_canvas)
    if images is None:
      return Inference(canvas, None, None)
    return Inference(canvas, jnp.stack(kl_nats)[None], log_ratio_nats)

  def _noise(self, keys, layer, distribution):
    """[B, h, w, Z] draws of N(0, 1) for a layer, as large as a distribution of it; keys: [B]."""
    number = noise_lib.layer(self.iterations, layer) if layer else 0
    return standard_normal(keys, number, distribution.mean.shape[1:])

  def _encode(self, stack, images):
    """[e_1, ..., e_L], each [B, h, w, F] of its layer."""
    e = 2 * self.unit_interval(images) - 1
    bottom_up = []
    for i, layer in enumerate(stack):
      e = self._hidden(f'encoder_{i}', layer, self._read(f'encoder_{i}_0', layer, e))
      bottom_up.append(e)
    return bottom_up

  def _gaussian(self, name, layer, inputs):
    return DiagonalGaussian.split(self._linear(name, layer, 2 * layer.latents, inputs, SMALL))

  def _hidden(self, name, layer, x):
    """The layer's `depth` nonlinear layers; x [B, h, w, F] is the linear part of the first."""
    activate = nn.elu if layer.stride else jnp.tanh
    for i in range(1, self.depth):
      y = self._linear(f'{name}_{i}', layer, layer.features, (activate(x),))
      x = x + y if layer.stride else y
    return activate(x)

  def _linear(self, name, layer, outputs, inputs, gain=1.0):
    """At the layer's own resolution: arrays [B, h, w, I] -> [B, h, w, outputs]."""
    x = jnp.concatenate(inputs, -1)
    if not layer.stride:
      return self._dense(name, outputs, x, gain)
    return nn.Conv(
        outputs, (self.kernel, self.kernel), dtype=self.compute_dtype,
        kernel_init=fan_in(gain), name=name)(x).astype(jnp.float32)

  def _read(self, name, layer, x):
    """From below: [B, H, W, I] -> [B, h, w, F]."""
    b, *size, _ = x.shape
    if not layer.stride:
      return self._dense(name, layer.features, x.reshape(b, 1, 1, -1))
    # Whole cells: where a cell's kernel lies does not depend on how the stride divides the size.
    rows, columns = ((0, -n % layer.stride) for n in size)
    return nn.Conv(
        layer.features, (self.kernel, self.kernel), layer.stride, dtype=self.compute_dtype,
        kernel_init=fan_in(1.0), name=name)(
            jnp.pad(x, ((0, 0), rows, columns, (0, 0)))).astype(jnp.float32)

  def _write(self, name, layer, outputs, x, below, gain=1.0, use_bias=True):
    """To below, of size (H, W): [B, h, w, F] -> [B, H, W, outputs]."""
    height, width = below
    if not layer.stride:
      y = self._dense(name, height * width * outputs, x, gain, use_bias)
      return y.reshape(-1, height, width, outputs)
    # A transposed convolution sums over 1 / stride^2 of its kernel for each output.
    y = nn.ConvTranspose(
        outputs, (self.kernel, self.kernel), (layer.stride, layer.stride), use_bias=use_bias,
        dtype=self.compute_dtype, kernel_init=fan_in(gain * layer.stride**2), name=name)(x)
    return y[:, :height, :width].astype(jnp.float32)

  def _dense(self, name, outputs, x, gain=1.0, use_bias=True):
    return nn.Dense(
        outputs, use_bias, dtype=self.compute_dtype, kernel_init=fan_in(gain), name=name)(
            x).astype(jnp.float32)

  def _sizes(self, stack, image_size):
    """[(H, W), (h_1, w_1), ..., (h_L, w_L)]: of the image and of every layer, (1, 1) if dense."""
    dense = [not layer.stride for layer in stack]
    if any(dense):
      if self.image_size is None:
        raise UserError('a Vae with a fully connected layer (stride 0) needs image_size=(H, W)')
      if tuple(self.image_size) != image_size:
        raise UserError(
            f'this Vae has a fully connected layer for image_size={tuple(self.image_size)}: it '
            f'cannot be applied to {image_size}')
      if dense != sorted(dense):
        raise UserError(
            'above a fully connected layer (stride 0) only such can be, but the strides are '
            f'{[layer.stride for layer in stack]}')
    return geometry.sizes(stack, image_size)


# Variance gain of the linear layers that make distributions: training starts close to q = p =
# N(0, 1) and to the initial canvas.
SMALL = 0.01


def fan_in(gain):
  """Weights of this gain: outputs have `gain` times the mean square of the inputs."""
  return nn.initializers.variance_scaling(gain, 'fan_in', 'truncated_normal')

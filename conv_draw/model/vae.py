"""The variational auto-encoders without recurrence of the paper's table 1 (section 1.1)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from conv_draw.errors import UserError
from conv_draw.model import arguments, geometry, image_model
from conv_draw.model import noise as noise_lib
from conv_draw.model.conv_draw import Inference
from conv_draw.model.latents import DiagonalGaussian, kl_divergence
from conv_draw.model.layers import Layer, add_bias
from conv_draw.model.noise import standard_normal
from conv_draw.model.weights import GENERATION, INFERENCE, Role


class Vae(image_model.ImageModel, nn.Module):
  """Variational auto-encoder with layers of latents, each convolutional or fully connected.

  With two fully connected layers it is the VAE / IWAE of Burda et al. (2016), which on 28x28 has
  2 tanh layers of 200 and 100 latents, then 2 of 100 and 50 latents. With convolutional layers it
  is a deep convolutional VAE.

  Deterministic features e_1..e_L are computed from the image upwards, then latents from the top
  down: the posterior q_l is given e_l and the latents above (Sønderby et al., 2016). KL(q_l | p_l)
  is therefore in closed form given the latents above, as that of convolutional DRAW is given those
  of earlier iterations. Burda et al. infer upwards instead, each q_l given a sample of the layer
  below.

  The methods are those of `ConvDraw`, with the same arguments and T = 1.

  Attributes:
    channels: C, of the images.
    pixels: p(x | canvas), a distribution of `model.pixels`.
    features: F, hidden features of the layer nearest the pixels.
    latents: Z, latent maps of that layer.
    stride: between the image and that layer; 0 = fully connected.
    upper: `Layer`s above, from the pixels up; all layers above a fully connected layer are fully
      connected.
    kernel: side of all kernels, odd.
    depth: hidden layers before each layer of latents, and after it.
    image_size: (H, W) of all images, needed by fully connected layers alone.
    compute_dtype: of linear operations; parameters, latents, likelihoods, canvas and nonlinear
      operations are float32.
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

  def __call__(
      self, key: ArrayLike, images: arguments.Array, temperature: ArrayLike = 1.0,
  ) -> Inference:
    """Infers the latents of images: z_l ~ q_l in every layer. Arguments are those of `ConvDraw`."""
    keys = image_model.inference_keys(self, key, images, temperature)

    def draw_latent(layer, posterior, prior):
      del prior
      return posterior.at(temperature * self._noise(keys, layer, posterior))

    return self._generate(images.shape, images, draw_latent)

  def reconstruct(
      self, key: ArrayLike, images: arguments.Array, groups: ArrayLike,
      temperature: ArrayLike = 1.0, posterior_temperature: ArrayLike = 1.0,
      generation_key: ArrayLike | None = None,
  ) -> jax.Array:
    """The canvas [B, H, W, R] of latents from the posterior (groups = 1) or the prior (groups = 0).

    Arguments are those of `ConvDraw.reconstruct`.
    """
    groups, keys, generation_keys = image_model.reconstruct_arguments(
        self, key, images, groups, temperature, posterior_temperature, generation_key)

    def draw_latent(layer, posterior, prior):
      stored = groups > 0
      noise = self._noise(jnp.where(stored, keys, generation_keys), layer, prior)
      return jnp.where(
          stored[:, None, None, None], posterior.at(posterior_temperature * noise),
          prior.at(temperature * noise))

    return self._generate(images.shape, images, draw_latent).canvas

  def sample(
      self, key: ArrayLike, count: int, image_size: Sequence[int], temperature: ArrayLike = 1.0,
  ) -> jax.Array:
    """The canvas [B, H, W, R] of z_l ~ p_l in every layer. Arguments are those of `ConvDraw`."""
    keys, image_size = image_model.sample_arguments(key, count, image_size, temperature)

    def draw_latent(layer, posterior, prior):
      del posterior
      return prior.at(temperature * self._noise(keys, layer, prior))

    return self._generate((len(keys), *image_size, self.channels), None, draw_latent).canvas

  @staticmethod
  def role(names: Sequence[str]) -> Role:
    """The `Role` of a parameter, by its path below 'params'."""
    return Role(INFERENCE if names[0].startswith(('encoder', 'posterior')) else GENERATION)

  @nn.compact
  def _generate(self, shape, images, draw_latent):
    """Generation from the top layer down, with inference if there are images.

    Args:
      shape: (B, H, W, C) of the images.
      images: uint8 of that shape, or None.
      draw_latent: (layer, q_l or None without images, p_l) -> z_l [B, h, w, Z].
    Returns:
      `Inference`, the layer nearest the pixels first; its KL is None without images.
    """
    b, *image_size, _ = shape
    stack = (Layer(self.features, self.latents, self.stride), *self.upper)
    sizes = self._sizes(stack, tuple(image_size))
    bottom_up = None if images is None else self._encode(stack, images)
    kl_nats, log_ratio_nats = [], 0.0

    above = ()  # features [B, h, w, F] of the latents above; empty at the top
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
      z = draw_latent(i, posterior, prior)
      if images is not None:
        everywhere = (1, 2, 3)
        kl_nats.insert(0, kl_divergence(posterior, prior).sum(everywhere))
        log_ratio_nats += (posterior.log_prob(z) - prior.log_prob(z)).sum(everywhere)

      # A fully connected decoder reads z_i alone, as in Burda et al. A convolutional decoder reads
      # `above` too, so that z_i need not encode it again.
      inputs = (z, *above) if layer.stride else (z,)
      hidden = self._hidden(
          f'decoder_{i}', layer, self._linear(f'decoder_{i}_0', layer, layer.features, inputs))
      if i and stack[i - 1].stride:
        hidden = nn.elu(self._write(f'write_{i}', layer, stack[i - 1].features, hidden, sizes[i]))
      above = (hidden,)

    r = self.pixels.canvas_channels(self.channels)
    # One bias for all pixels, or one per pixel in fully connected models. The bias of the linear
    # layer would be rounded to `compute_dtype`.
    initial_canvas = self.param('initial_canvas', lambda key: jnp.broadcast_to(
        self.pixels.initial_canvas(self.channels), (r,) if self.stride else (*sizes[0], r)))
    written = self._write('write_0', stack[0], r, hidden, sizes[0], SMALL, use_bias=False)
    canvas = add_bias(written, initial_canvas)
    if images is None:
      return Inference(canvas, None, None)
    return Inference(canvas, jnp.stack(kl_nats)[None], log_ratio_nats)

  def _noise(self, keys, layer, distribution):
    """[B, h, w, Z] draws of N(0, 1) for a layer, of its distribution's shape; keys: [B]."""
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
    """The `DiagonalGaussian` of a layer's latents, given arrays [B, h, w, I]."""
    return DiagonalGaussian.split(self._linear(name, layer, 2 * layer.latents, inputs, SMALL))

  def _hidden(self, name, layer, x):
    """The `depth` nonlinear layers of a layer; x [B, h, w, F] is the linear part of the first."""
    activate = nn.elu if layer.stride else jnp.tanh
    for i in range(1, self.depth):
      y = self._linear(f'{name}_{i}', layer, layer.features, (activate(x),))
      x = x + y if layer.stride else y
    return activate(x)

  def _linear(self, name, layer, outputs, inputs, gain=1.0):
    """A linear layer between maps of one size: arrays [B, h, w, I] -> [B, h, w, outputs]."""
    x = jnp.concatenate(inputs, -1)
    if not layer.stride:
      return self._dense(name, outputs, x, gain)
    return nn.Conv(
        outputs, (self.kernel, self.kernel), dtype=self.compute_dtype,
        kernel_init=fan_in(gain), name=name)(x).astype(jnp.float32)

  def _read(self, name, layer, x):
    """A linear layer from the maps or image below: [B, H, W, I] -> [B, h, w, F]."""
    b, *size, _ = x.shape
    if not layer.stride:
      return self._dense(name, layer.features, x.reshape(b, 1, 1, -1))
    # Padded to whole cells, so that kernels are aligned alike for all image sizes.
    rows, columns = ((0, -n % layer.stride) for n in size)
    return nn.Conv(
        layer.features, (self.kernel, self.kernel), layer.stride, dtype=self.compute_dtype,
        kernel_init=fan_in(1.0), name=name)(
            jnp.pad(x, ((0, 0), rows, columns, (0, 0)))).astype(jnp.float32)

  def _write(self, name, layer, outputs, x, below, gain=1.0, use_bias=True):
    """A linear layer to the maps or canvas below: [B, h, w, F] -> [B, H, W, outputs]."""
    height, width = below
    if not layer.stride:
      y = self._dense(name, height * width * outputs, x, gain, use_bias)
      return y.reshape(-1, height, width, outputs)
    # An output of a transposed convolution is a sum over 1 / stride^2 of the kernel.
    y = nn.ConvTranspose(
        outputs, (self.kernel, self.kernel), (layer.stride, layer.stride), use_bias=use_bias,
        dtype=self.compute_dtype, kernel_init=fan_in(gain * layer.stride**2), name=name)(x)
    return y[:, :height, :width].astype(jnp.float32)

  def _dense(self, name, outputs, x, gain=1.0, use_bias=True):
    return nn.Dense(
        outputs, use_bias, dtype=self.compute_dtype, kernel_init=fan_in(gain), name=name)(
            x).astype(jnp.float32)

  def _sizes(self, stack, image_size):
    """[(H, W), (h_1, w_1), ..., (h_L, w_L)]: of the image and of every layer."""
    geometry.check_size(stack, self.image_size, image_size)
    dense = [not layer.stride for layer in stack]
    if dense != sorted(dense):
      raise UserError(
          'a layer above a fully connected layer (stride 0) must be fully connected, but the '
          f'strides are {[layer.stride for layer in stack]}')
    return geometry.sizes(stack, image_size)


# Variance gain of the last linear layers before distributions: training starts close to
# q = p = N(0, 1) and to the initial canvas.
SMALL = 0.01


def fan_in(gain):
  """The initialiser of weights whose outputs have `gain` times the mean square of the inputs."""
  return nn.initializers.variance_scaling(gain, 'fan_in', 'truncated_normal')

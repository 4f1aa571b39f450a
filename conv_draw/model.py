"""Convolutional DRAW (Gregor et al., 2016): one recurrence, unrolled by `jax.lax.scan`.

Equation numbers are the paper's. Training, reconstruction, sampling and coding all run `step`;
what differs is only where z_t comes from.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw import distributions, layers
from conv_draw.distributions import DiagonalGaussian


class Image(NamedTuple):
  """What the encoder sees of x at every iteration."""

  x: jax.Array  # [B, h, w, s*s, C] in [0, 1], the s*s pixels of each hidden position
  gates: jax.Array  # 4F maps: conv(x) of equation (2), which does not depend on t


class State(NamedTuple):
  """What the recurrence carries from t - 1 to t, at the hidden resolution h x w.

  The four of F maps are in the layout of `layers.grid`.
  """

  h_e: Any  # encoder output h^e, transformed for the convolutions that read it
  c_e: jax.Array  # encoder cell
  h_d: Any  # decoder output h^d, transformed likewise
  c_d: jax.Array  # decoder cell
  canvas: jax.Array  # [B, h, w, s*s, R] r, with R canvas channels


class Weights(NamedTuple):
  """Parameters as `step` reads them: kernels prepared once, outside the loop."""

  encoder_error: jax.Array
  encoder_h_e: jax.Array
  encoder_h_d: jax.Array
  posterior: jax.Array
  posterior_bias: jax.Array
  prior: jax.Array
  prior_bias: jax.Array
  decoder_latent: jax.Array
  decoder_h_d: jax.Array
  decoder_canvas: jax.Array
  decoder_bias: jax.Array
  write: jax.Array


class Output(NamedTuple):
  """What one iteration reports; the nats are None where nothing is inferred."""

  z: jax.Array  # [B, h, w, Z]
  kl_nats: jax.Array | None  # [L, B] KL(q_t | p_t) (5), summed over maps and positions
  log_ratio_nats: jax.Array | None  # [B] log q_t(z_t) - log p_t(z_t)


class Inference(NamedTuple):
  """What T iterations say of B images."""

  canvas: jax.Array  # [B, H, W, R] r_T, the parameters of p(x | z)
  kl_nats: jax.Array  # [T, L, B]
  log_ratio_nats: jax.Array  # [B] log q(z | x) - log p(z) at the z that was drawn


def step(grid, weights, pixels, inside, image, state, draw_latent):
  """Iteration t of convolutional DRAW: equations (1) to (7).

  Args:
    grid: `layers.grid` of the hidden resolution: how to convolve.
    weights: `Weights`.
    pixels: the pixel distribution, for mu(r).
    inside: [h, w, s*s, 1], 0 on the padding of images whose size the stride does not divide, 1
      elsewhere: the padding reads as zero, like all that lies outside an image.
    image: `Image`, or None to run the generative half alone.
    state: `State` after iteration t - 1.
    draw_latent: (posterior, prior) -> z_t [B, h, w, Z]; posterior is None without an image.
  Returns:
    (`State` after iteration t, `Output`).
  """
  h_e, c_e, h_d, c_d, canvas = state
  w = weights
  conv = lambda *terms: grid.convolve(terms)
  maps = lambda y, bias: DiagonalGaussian.split(grid.leave(y) + bias)
  read = lambda x: grid.transform(grid.enter(x.reshape(*x.shape[:3], -1)))

  posterior = kl_nats = log_ratio_nats = None
  if image is not None:
    error = (image.x - pixels.mean(canvas)) * inside  # (1)
    gates = image.gates + conv(
        (read(error), w.encoder_error), (h_e, w.encoder_h_e), (h_d, w.encoder_h_d))
    h_e, c_e = layers.lstm(gates, c_e)  # (2)
    h_e = grid.transform(h_e)
    posterior = maps(conv((h_e, w.posterior)), w.posterior_bias)  # (3)
  prior = maps(conv((h_d, w.prior)), w.prior_bias)  # (4)

  z = draw_latent(posterior, prior)
  if image is not None:
    everywhere = (1, 2, 3)
    kl_nats = distributions.kl_divergence(posterior, prior).sum(everywhere)[None]  # (5)
    log_ratio_nats = (posterior.log_prob(z) - prior.log_prob(z)).sum(everywhere)

  gates = w.decoder_bias + conv(
      (read(z), w.decoder_latent), (h_d, w.decoder_h_d),
      (read(canvas * inside), w.decoder_canvas))
  h_d, c_d = layers.lstm(gates, c_d)  # (6)
  h_d = grid.transform(h_d)
  canvas = canvas + grid.leave(conv((h_d, w.write))).reshape(canvas.shape)  # (7)
  return State(h_e, c_e, h_d, c_d, canvas), Output(z, kl_nats, log_ratio_nats)


class ConvDraw(nn.Module):
  """Single-layer convolutional DRAW for images of any size.

  `apply(params, key, images)` infers; the other entry points are methods:
  `apply(params, key, images, groups, method='reconstruct')` and
  `apply(params, key, count, image_size, method='sample')`.

  Everywhere `key` is one PRNG key, or B of them, one per image: image b's randomness then depends
  on its own key alone, whatever the batch around it.

  Attributes:
    channels: C, of the images.
    pixels: `distributions.GaussianPixels` or `BernoulliPixels`.
    steps: T, iterations.
    features: F, LSTM feature maps.
    latents: Z, latent maps per iteration.
    kernel: side of all kernels, odd.
    stride: between image and hidden resolution.
    compute_dtype: of the convolutions' operands and results; parameters and their gradients,
      cells, canvas, latents and likelihoods are float32 always.
    remat: recompute each iteration in the backward pass instead of storing it.
  """

  channels: int
  pixels: distributions.GaussianPixels | distributions.BernoulliPixels
  steps: int = 32
  features: int = 160
  latents: int = 12
  kernel: int = 5
  stride: int = 2
  compute_dtype: jnp.dtype = jnp.float32
  remat: bool = False

  def setup(self):
    f, z, c = self.features, self.latents, self.channels
    r = self.pixels.canvas_channels(c)
    # (2) h^e_t = RNN(x, eps_t, h^e_{t-1}, h^d_{t-1})
    self.encoder_image = self._kernel('encoder_image', c, 4 * f)
    self.encoder_error = self._kernel('encoder_error', c, 4 * f)
    self.encoder_h_e = self._kernel('encoder_h_e', f, 4 * f)
    self.encoder_h_d = self._kernel('encoder_h_d', f, 4 * f)
    self.encoder_bias = self.param('encoder_bias', lstm_bias, (4 * f,))
    # (3) and (4)
    self.posterior = self._kernel('posterior', f, 2 * z)
    self.posterior_bias = self.param('posterior_bias', nn.initializers.zeros, (2 * z,))
    self.prior = self._kernel('prior', f, 2 * z)
    self.prior_bias = self.param('prior_bias', nn.initializers.zeros, (2 * z,))
    # (6) h^d_t = RNN(z_t, h^d_{t-1}, r_{t-1})
    self.decoder_latent = self._kernel('decoder_latent', z, 4 * f)
    self.decoder_h_d = self._kernel('decoder_h_d', f, 4 * f)
    self.decoder_canvas = self._kernel('decoder_canvas', r, 4 * f)
    self.decoder_bias = self.param('decoder_bias', lstm_bias, (4 * f,))
    # (7) W, a transposed convolution: its kernel is that of the convolution it is the adjoint of
    self.write = self.param(
        'write', nn.initializers.variance_scaling(0.1, 'fan_out', 'normal'),
        (self.kernel, self.kernel, r, f))
    self.initial_canvas = self.param(
        'initial_canvas', lambda key, shape: self.pixels.initial_canvas(c), (r,))

  def _kernel(self, name, inputs, outputs):
    shape = (self.kernel, self.kernel, inputs, outputs)
    return self.param(name, nn.initializers.lecun_normal(), shape)

  def __call__(self, key, images, temperature=1.0):
    """Infers: z_t ~ q_t at every iteration.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..levels-1.
      temperature: scales the posterior's standard deviation; 0 infers with posterior means.
    Returns:
      `Inference`.
    """
    def draw_latent(t, noise, posterior, prior):
      del t, prior
      return posterior.at(temperature * noise)

    canvas, outputs = self._unroll(key, images.shape, images, draw_latent)
    return Inference(canvas, outputs.kl_nats, outputs.log_ratio_nats.sum(0))

  def reconstruct(self, key, images, groups, temperature=1.0, posterior_temperature=1.0):
    """Keeps the first `groups` groups of latents and generates the rest (section 4.4).

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..levels-1.
      groups: int or [B] ints in 0..T: z_t comes from the posterior for t <= groups.
      temperature: of the prior that generates the other groups: 1 full variance, 0 its mean.
      posterior_temperature: of the posterior, likewise.
    Returns:
      [B, H, W, R] the canvas r_T.
    """
    groups = jnp.broadcast_to(groups, images.shape[:1])[:, None, None, None]

    def draw_latent(t, noise, posterior, prior):
      return jnp.where(
          t < groups, posterior.at(posterior_temperature * noise), prior.at(temperature * noise))

    return self._unroll(key, images.shape, images, draw_latent)[0]

  def sample(self, key, count, image_size, temperature=1.0):
    """Generates: z_t ~ p_t at every iteration.

    Args:
      key: one PRNG key, or [count] of them.
      count: B, how many images.
      image_size: (H, W), any.
      temperature: scales the prior's standard deviation.
    Returns:
      [B, H, W, R] the canvas r_T.
    """
    def draw_latent(t, noise, posterior, prior):
      del t, posterior
      return prior.at(temperature * noise)

    return self._unroll(key, (count, *image_size, self.channels), None, draw_latent)[0]

  def unit_interval(self, images):
    """uint8 values 0..levels-1 -> x in [0, 1], float32."""
    return images.astype(jnp.float32) / (self.pixels.levels - 1)

  def _unroll(self, key, shape, images, draw_latent):
    """T iterations of `step` by `jax.lax.scan`.

    Args:
      key: one PRNG key, or [B] of them.
      shape: (B, H, W, C) of the images.
      images: uint8 of that shape, or None.
      draw_latent: (t, noise, posterior, prior) -> z_t, all [B, h, w, Z] but t.
    Returns:
      ([B, H, W, R] canvas r_T, `Output` with a leading T on every array).
    """
    b, height, width, _ = shape
    h, w = -(-height // self.stride), -(-width // self.stride)
    grid = layers.grid((h, w), self.kernel, self.compute_dtype)
    weights = self._weights(grid)
    image = None if images is None else self._image(grid, images)
    inside = layers.space_to_depth(jnp.ones((1, height, width, 1)), self.stride)[0, ..., None]
    keys = image_keys(key, b)

    def iterate(state, t):
      noise = jax.vmap(lambda k: jax.random.normal(
          jax.random.fold_in(k, t), (h, w, self.latents)))(keys)
      return step(
          grid, weights, self.pixels, inside, image, state,
          functools.partial(draw_latent, t, noise))

    if self.remat:
      iterate = jax.checkpoint(iterate, prevent_cse=False)
    zeros = grid.zeros(b, self.features)
    h_0 = grid.transform(zeros)
    canvas_0 = jnp.broadcast_to(
        self.initial_canvas, (b, h, w, self.stride**2, self.initial_canvas.size))
    state, outputs = jax.lax.scan(
        iterate, State(h_0, zeros, h_0, zeros, canvas_0), jnp.arange(self.steps))
    return layers.depth_to_space(state.canvas, self.stride, (height, width)), outputs

  def _image(self, grid, images):
    x = layers.space_to_depth(self.unit_interval(images), self.stride)
    kernel = grid.prepare(layers.strided_kernel(self.encoder_image, self.stride))
    gates = grid.convolve([(grid.transform(grid.enter(x)), kernel)]) + self.encoder_bias
    return Image(x.reshape(*x.shape[:3], self.stride**2, -1), gates)

  def _weights(self, grid):
    strided = lambda kernel: grid.prepare(layers.strided_kernel(kernel, self.stride))
    return Weights(
        encoder_error=strided(self.encoder_error),
        encoder_h_e=grid.prepare(self.encoder_h_e),
        encoder_h_d=grid.prepare(self.encoder_h_d),
        posterior=grid.prepare(self.posterior),
        posterior_bias=self.posterior_bias,
        prior=grid.prepare(self.prior),
        prior_bias=self.prior_bias,
        decoder_latent=grid.prepare(self.decoder_latent),
        decoder_h_d=grid.prepare(self.decoder_h_d),
        decoder_canvas=strided(self.decoder_canvas),
        decoder_bias=self.decoder_bias,
        write=grid.prepare(
            layers.adjoint_kernel(layers.strided_kernel(self.write, self.stride))),
    )


def image_keys(key, count):
  """[count] keys: `key` itself if it is one per image already, else folded with 0..count-1."""
  if key.ndim:
    return key
  return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(count))


def lstm_bias(key, shape):
  """Zeros, but 1 for the forget gates, so that cells remember from the start."""
  del key
  features = shape[0] // 4
  return jnp.zeros(shape).at[features : 2 * features].set(1.0)


def from_config(config, channels, levels):
  """The `ConvDraw` that `config.model` describes, for images with that many channels and levels."""
  m = config.model
  return ConvDraw(
      channels=channels,
      pixels=distributions.pixels(m.likelihood, levels),
      steps=m.steps,
      features=m.features,
      latents=m.latents,
      kernel=m.kernel,
      stride=m.stride,
      compute_dtype=jnp.dtype(m.compute_dtype),
      remat=m.remat,
  )

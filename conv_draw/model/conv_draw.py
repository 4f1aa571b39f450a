"""Convolutional DRAW (Gregor et al., 2016): one recurrence, unrolled by `jax.lax.scan`.

Equation numbers are the paper's; with several layers, its figure 2. Training,
reconstruction, sampling and coding all run `step`; what differs is only where z_t comes from.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from conv_draw.model import layers
from conv_draw.model import weights as weights_lib
from conv_draw.model.latents import DiagonalGaussian, QuantisedPosterior, latent_nats


class Image(NamedTuple):
  """What the encoder sees of x at every iteration."""

  x: jax.Array  # [B, h, w, s*s, C] in [0, 1], the s*s pixels of each cell of the first layer
  gates: jax.Array  # 4F maps: conv(x) of equation (2), which does not depend on t


class LayerState(NamedTuple):
  """What one layer carries from t - 1 to t, in the layout of its grid."""

  h_e: Any  # encoder output h^e, transformed for the convolutions that read it
  c_e: jax.Array  # encoder cell
  h_d: Any  # decoder output h^d, transformed likewise
  c_d: jax.Array  # decoder cell
  above: Any  # h^d of the layer above, brought to this layer's maps; None at the top


class State(NamedTuple):
  """What the recurrence carries from t - 1 to t."""

  layers: tuple[LayerState, ...]  # the layer nearest the pixels first
  canvas: jax.Array  # [B, h, w, s*s, R] r, with R canvas channels


class Output(NamedTuple):
  """What one iteration reports; the nats are None where nothing is inferred."""

  z: tuple[jax.Array, ...]  # by layer, [B, h, w, Z]
  kl_nats: jax.Array | None  # [L, B] KL(q_t | p_t) (5), summed over maps and positions
  log_ratio_nats: jax.Array | None  # [B] log q_t(z_t) - log p_t(z_t)


class Inference(NamedTuple):
  """What T iterations say of B images."""

  canvas: jax.Array  # [B, H, W, R] r_T, the parameters of p(x | z)
  kl_nats: jax.Array  # [T, L, B]
  log_ratio_nats: jax.Array  # [B] log q(z | x) - log p(z) at the z that was drawn


def step(geometry, weights, pixels, inside, image, state, posterior_of, draw_latent):
  """Iteration t of convolutional DRAW: equations (1) to (7), for any number of layers (figure 2).

  Args:
    geometry: `Geometry` of each layer, the layer nearest the pixels first.
    weights: `Weights` of each layer, prepared.
    pixels: the pixel distribution, for mu(r).
    inside: [h, w, s*s, 1], 0 on the padding of images whose size the stride does not divide, 1
      elsewhere: the padding reads as zero, like all that lies outside an image.
    image: `Image`, or None to run the generative half alone.
    state: `State` after iteration t - 1.
    posterior_of: (layer, maps [B, h, w, Z or 2 Z]) -> q_t of layer 0, 1, ...
    draw_latent: (layer, posterior, prior) -> z_t [B, h, w, Z]; posterior is None without an image.
  Returns:
    (`State` after iteration t, `Output`).
  """
  states, canvas = list(state.layers), state.canvas
  posteriors = [None] * len(geometry)

  if image is not None:  # up through the encoders
    below = ((image.x - pixels.mean(canvas)) * inside).reshape(*image.x.shape[:3], -1)  # (1)
    for i, (g, w, s) in enumerate(zip(geometry, weights, state.layers, strict=True)):
      if i > 0:
        below = layers.space_to_depth(geometry[i - 1].grid.leave(below), g.block)
      gates = (image.gates if i == 0 else w.encoder_bias) + g.grid.convolve([
          (_read(g, below), w.encoder_below), (s.h_e, w.encoder_h_e), (s.h_d, w.encoder_h_d),
          *_above(s.above, w.encoder_above)])
      below, c_e = layers.lstm(gates, s.c_e)  # (2)
      states[i] = s = s._replace(h_e=g.grid.transform(below), c_e=c_e)
      posteriors[i] = posterior_of(
          i, _maps(g, [(s.h_e, w.posterior)], w.posterior_bias))  # (3)

  zs, kls, log_ratios = [], [], []
  above = None
  for i in reversed(range(len(geometry))):  # down through the decoders
    g, w, s, posterior = geometry[i], weights[i], states[i], posteriors[i]
    prior = DiagonalGaussian.split(_maps(
        g, [(s.h_d, w.prior), *_above(above, w.prior_above)], w.prior_bias))  # (4)
    z = draw_latent(i, posterior, prior)
    zs.append(z)
    if image is not None:
      everywhere = (1, 2, 3)
      kl_nats, log_ratio_nats = latent_nats(posterior, prior, z)
      kls.append(kl_nats.sum(everywhere))  # (5)
      log_ratios.append(log_ratio_nats.sum(everywhere))

    terms = [(_read(g, z), w.decoder_latent), (s.h_d, w.decoder_h_d)]
    if i == 0:
      read = (canvas * inside).reshape(*canvas.shape[:3], -1)
      terms.append((_read(g, read), w.decoder_canvas))
    gates = w.decoder_bias + g.grid.convolve([*terms, *_above(above, w.decoder_above)])
    h_d, c_d = layers.lstm(gates, s.c_d)  # (6)
    h_d = g.grid.transform(h_d)
    states[i] = s._replace(h_d=h_d, c_d=c_d, above=above)
    down = g.grid.leave(g.grid.convolve([(h_d, w.down)]))
    if i > 0:
      above = _read(geometry[i - 1], layers.depth_to_space(down, g.block, g.below))

  canvas = canvas + down.reshape(canvas.shape)  # (7)
  output = Output(tuple(zs[::-1]), None, None)
  if image is not None:
    output = output._replace(
        kl_nats=jnp.stack(kls[::-1]), log_ratio_nats=functools.reduce(jnp.add, log_ratios))
  return State(tuple(states), canvas), output


def _read(g, x):
  """[B, h, w, C] -> ready to be convolved."""
  return g.grid.transform(g.grid.enter(x))


def _above(x, kernel):
  """What a layer reads of the one above: a list of one term of a sum of convolutions, or none."""
  return [] if kernel is None else [(x, kernel)]


def _maps(g, terms, bias):
  """[B, h, w, C] of a sum of convolutions."""
  return g.grid.leave(g.grid.convolve(terms)) + bias


class ConvDraw(nn.Module):
  """Convolutional DRAW with one layer or more, for images of any size.

  `apply(params, key, images)` infers; the other entry points are methods:
  `apply(params, key, images, groups, method='reconstruct')` and
  `apply(params, key, count, image_size, method='sample')`.

  Everywhere `key` is one PRNG key, or B of them, one per image: image b's randomness then depends
  on its own key alone, whatever the batch around it.

  A layer of stride 0 is fully connected: its maps have one cell, whose linear operations read all
  of the layer below. One such layer alone is DRAW without attention (Gregor et al., 2015), with a
  learned prior.

  Attributes:
    channels: C, of the images.
    pixels: the pixel distribution, `pixels.GaussianPixels` or another.
    iterations: T.
    features: F, LSTM feature maps of the layer nearest the pixels.
    latents: Z, latent maps per iteration of that layer.
    kernel: side of all kernels, odd.
    stride: between image and hidden resolution; 0 = fully connected.
    upper: `layers.Layer` of the further layers, the next above the pixels first.
    posterior: 'gaussian', with inferred mean and variance; or with variances that depend on the map
      and iteration alone, so that latents can be coded: 'constant', Gaussian; 'rounded', its mean
      rounded to bins (section 3); 'uniform', for dithered quantisation.
    image_size: (H, W), needed only with fully connected layers: they fit one size.
    compute_dtype: of the convolutions' operands and results; parameters and their gradients,
      cells, canvas, latents and likelihoods are float32 always.
    remat: recompute each iteration in the backward pass instead of storing it.
  """

  channels: int
  pixels: Any
  iterations: int = 32
  features: int = 160
  latents: int = 12
  kernel: int = 5
  stride: int = 2
  upper: tuple[layers.Layer, ...] = ()
  posterior: str = 'gaussian'
  image_size: tuple[int, int] | None = None
  compute_dtype: jnp.dtype = jnp.float32
  remat: bool = False

  @property
  def all_layers(self):
    """Every `layers.Layer`, the one nearest the pixels first."""
    return (layers.Layer(self.features, self.latents, self.stride), *self.upper)

  def setup(self):
    c, r = self.channels, self.pixels.canvas_channels(self.channels)
    self._check_size(self.image_size)
    sizes = weights_lib.sizes(self.all_layers, self.image_size)
    first = self.all_layers[0]
    # (2) h^e_t = RNN(x, eps_t, h^e_{t-1}, h^d_{t-1})
    self.encoder_image = self.param(
        'encoder_image', nn.initializers.lecun_normal(),
        weights_lib.between(first, self.kernel, sizes[0], c, 4 * first.features))
    raw, below = [], (c, r)  # channels that go up from below, and that go down to there
    for i, layer in enumerate(self.all_layers):
      raw.append(weights_lib.create(
          self.param, i, self.all_layers, self.kernel, sizes[i], *below,
          0 if self.posterior == 'gaussian' else self.iterations))
      below = (layer.features, layer.features)
    self.raw = tuple(raw)
    # A bias of all pixels; or of each, where they have weights of their own.
    pixels = () if self.stride else tuple(self.image_size)
    self.initial_canvas = self.param('initial_canvas', lambda key: jnp.broadcast_to(
        self.pixels.initial_canvas(c), (*pixels, r)))

  def _check_size(self, image_size):
    """Fully connected layers fit images of one size."""
    if any(not layer.stride for layer in self.all_layers) and (
        image_size is None or tuple(image_size) != tuple(self.image_size or ())):
      raise ValueError(
          f'fully connected layers (stride 0) fit images of one size: image_size is '
          f'{self.image_size}, the images are {image_size}')

  def __call__(self, key, images, temperature=1.0):
    """Infers: z_t ~ q_t at every iteration.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      temperature: scales the posterior's standard deviation; 0 infers with posterior means.
    Returns:
      `Inference`.
    """
    def draw_latent(t, posterior, prior):
      del t, prior
      return posterior(temperature)

    keys = image_keys(key, len(images))
    canvas, outputs = self._unroll(lambda t: keys, images.shape, images, draw_latent)
    return Inference(canvas, outputs.kl_nats, outputs.log_ratio_nats.sum(0))

  def reconstruct(
      self, key, images, groups, temperature=1.0, posterior_temperature=1.0, generation_key=None):
    """Keeps the first `groups` groups of latents and generates the rest (section 4.4).

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      groups: int or [B] ints in 0..T: z_t comes from the posterior for t <= groups.
      temperature: of the prior that generates the other groups: 1 full variance, 0 its mean.
      posterior_temperature: of the posterior, likewise.
      generation_key: as `key`, for what is generated: with another one, another completion of the
        same stored latents. Default: `key`.
    Returns:
      [B, H, W, R] the canvas r_T.
    """
    groups = jnp.broadcast_to(groups, images.shape[:1])
    keys = image_keys(key, len(images))
    others = keys if generation_key is None else image_keys(generation_key, len(images))

    def draw_latent(t, posterior, prior):
      stored = (t < groups)[:, None, None, None]
      return jnp.where(stored, posterior(posterior_temperature), prior(temperature))

    return self._unroll(
        lambda t: jnp.where(t < groups, keys, others), images.shape, images, draw_latent)[0]

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
    def draw_latent(t, posterior, prior):
      del t, posterior
      return prior(temperature)

    keys = image_keys(key, count)
    return self._unroll(
        lambda t: keys, (count, *image_size, self.channels), None, draw_latent)[0]

  def unit_interval(self, images):
    """uint8 values 0..grey_levels-1 -> x in [0, 1], float32."""
    return images.astype(jnp.float32) / (self.pixels.grey_levels - 1)

  def _unroll(self, keys_at, shape, images, draw_latent):
    """T iterations of `step` by `jax.lax.scan`.

    Args:
      keys_at: t -> [B] PRNG keys.
      shape: (B, H, W, C) of the images.
      images: uint8 of that shape, or None.
      draw_latent: (t, posterior, prior) -> z_t [B, h, w, Z] of one layer; both are functions that
        draw at a temperature.
    Returns:
      ([B, H, W, R] canvas r_T, `Output` with a leading T on every array).
    """
    b, *image_size, _ = shape
    weights = self.prepare(image_size)
    image = None if images is None else self.see(images)

    def iterate(state, t):
      keys = keys_at(t)

      def draw(i, posterior, prior):
        # Layer 1 draws from the image's key, the layers above from keys of their own.
        layer_keys = keys if i == 0 else jax.vmap(
            lambda k: jax.random.fold_in(k, self.iterations + i))(keys)
        shape = prior.mean.shape[1:]
        noise = jax.vmap(lambda k: jax.random.normal(
            jax.random.fold_in(k, t), shape))(layer_keys)
        return draw_latent(
            t, lambda temperature: posterior.at(temperature * noise),
            lambda temperature: self._generate(i, t, prior, noise, temperature, layer_keys))

      return self.iterate(weights, t, image_size, image, state, draw)

    if self.remat:
      iterate = jax.checkpoint(iterate, prevent_cse=False)
    state, outputs = jax.lax.scan(
        iterate, self.initial_state(b, image_size), jnp.arange(self.iterations))
    return self.canvas(state, image_size), outputs

  def prepare(self, image_size):
    """`Weights` of each layer as `iterate` wants them, for images of (H, W)."""
    self._check_size(image_size)
    return weights_lib.prepare(self.geometry(image_size), self.all_layers, self.raw)

  def see(self, images):
    """[B, H, W, C] uint8 -> `Image`, as `iterate` wants it."""
    g = self.geometry(images.shape[1:3])[0]
    x = layers.space_to_depth(self.unit_interval(images), g.block)
    kernel = g.grid.prepare(weights_lib.strided(
        self.all_layers[0], self.encoder_image))
    gates = g.grid.convolve([(_read(g, x), kernel)]) + self.raw[0].encoder_bias
    return Image(x.reshape(*x.shape[:3], g.block[0] * g.block[1], -1), gates)

  def initial_state(self, batch, image_size):
    """`State` before the first iteration: h = c = 0, r_0 a learned bias."""
    geometry, states = self.geometry(image_size), []
    for i, (g, layer) in enumerate(zip(geometry, self.all_layers, strict=True)):
      zeros = g.grid.zeros(batch, layer.features)
      h_0 = g.grid.transform(zeros)
      above = h_0 if i + 1 < len(geometry) else None
      states.append(LayerState(h_0, zeros, h_0, zeros, above))
    (a, b), size = geometry[0].block, geometry[0].size
    r = self.initial_canvas.shape[-1]
    bias = self.initial_canvas.reshape(-1, r)  # [1, R]; fully connected: [H W, R]
    canvas = jnp.broadcast_to(bias, (batch, *size, a * b, r))
    return State(tuple(states), canvas)

  def iterate(self, weights, t, image_size, image, state, draw_latent):
    """Iteration t + 1 of those that `apply` makes; for codecs, which need them one by one.

    Args:
      weights: of `prepare`.
      t: 0..T-1.
      image_size: (H, W).
      image: of `see`, or None to generate.
      state: of `initial_state`, or the iteration before.
      draw_latent: as of `step`.
    Returns:
      (`State`, `Output`).
    """
    geometry = self.geometry(image_size)
    inside = layers.space_to_depth(jnp.ones((1, *image_size, 1)), geometry[0].block)[0, ..., None]

    def posterior_of(i, maps):
      if self.posterior == 'gaussian':
        return DiagonalGaussian.split(maps)
      mean, log_sigma = maps.astype(jnp.float32), self._log_sigma(i)[t]
      if self.posterior == 'constant':
        return DiagonalGaussian(mean, jnp.broadcast_to(log_sigma, mean.shape))
      return QuantisedPosterior(mean, log_sigma, dithered=self.posterior == 'uniform')

    return step(geometry, weights, self.pixels, inside, image, state, posterior_of, draw_latent)

  def canvas(self, state, image_size):
    """[B, H, W, R] the canvas r of a `State`."""
    g = self.geometry(image_size)[0]
    canvas = state.canvas.reshape(*state.canvas.shape[:3], -1)
    return layers.depth_to_space(canvas, g.block, image_size)

  def bin_widths(self, i):
    """[T, Z] widths of the bins of layer i's latents, with posterior 'rounded' or 'uniform'."""
    return QuantisedPosterior(0.0, self._log_sigma(i), False).width

  def _log_sigma(self, i):
    return WIDTH_SPEED * self.raw[i].posterior_log_sigma

  def _generate(self, i, t, prior, noise, temperature, keys):
    """z_t from the prior: what a decoder would have got from a posterior on that prior's mean."""
    z = prior.at(temperature * noise)
    if self.posterior in ('gaussian', 'constant'):
      return z
    dithered = self.posterior == 'uniform'
    q = QuantisedPosterior(z, self._log_sigma(i)[t], dithered)
    if not dithered:
      return q.at(0.0)
    noise = jax.vmap(lambda k: jax.random.normal(
        jax.random.fold_in(k, DITHER + t), z.shape[1:]))(keys)
    return q.at(temperature * noise)

  def geometry(self, image_size):
    """`weights.Geometry` of each layer, for images of (H, W)."""
    return weights_lib.geometry(self.all_layers, self.kernel, image_size, self.compute_dtype)


# Adam moves every parameter by about the learning rate a step, but a bin must grow to fifty times
# the prior's width before a latent that says nothing costs nothing.
WIDTH_SPEED = 10

# Numbers folded into an image's key from here on are those of dithers.
DITHER = 2**20


def image_keys(key, count):
  """[count] keys: `key` itself if it is one per image already, else folded with 0..count-1."""
  if key.ndim:
    return key
  return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(count))

"""Convolutional DRAW (Gregor et al., 2016): the recurrence, unrolled by `jax.lax.scan`.

`recurrence.step` is one iteration. Here are the parameters that it runs on, and the ways to run it:
inference, reconstruction and sampling, which differ in where z_t comes from; and the pieces of
them for codecs, which go one iteration at a time.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from conv_draw.errors import UserError
from conv_draw.model import arguments, layers, linear_paths, recurrence
from conv_draw.model import geometry as geometry_lib
from conv_draw.model import noise as noise_lib
from conv_draw.model import restoration as restoration_lib
from conv_draw.model import weights as weights_lib
from conv_draw.model.latents import DiagonalGaussian, QuantisedPosterior
from conv_draw.model.noise import image_keys, standard_normal

# Adam moves every parameter by about the learning rate a step, but a bin must grow to fifty times
# the prior's width before a latent that says nothing costs nothing.
WIDTH_SPEED = 10


class Restored(NamedTuple):
  """Some prefixes of B images that were restored; all arrays are raw, per image."""

  at: jax.Array  # int32 [some, B] t - 1 of prefixes r_t, drawn for each image
  squared_error: jax.Array  # [some, B] of what is shown of these, as `Inference.squared_error`
  # Of the canvases of all iterations as they were before `restoration`; has no gradient.
  canvas_squared_error: jax.Array  # [T, B]


class Inference(NamedTuple):
  """What a model says of B images."""

  canvas: jax.Array  # [B, H, W, R] r_T, the parameters of p(x | z)
  kl_nats: jax.Array  # [T, L, B] KL(q_t | p_t) (5), the layer nearest the pixels first
  log_ratio_nats: jax.Array  # [B] log q(z | x) - log p(z) at the z that was drawn
  # Of local pixels, which are scored along with them (`local_draw`); of others, `elbo` does that.
  pixel_nats: jax.Array | None = None  # [B] -log p(x | z)
  canvas_nats: jax.Array | None = None  # [B] what the canvas alone would cost
  # Of a model with `prefixes`, what the canvas r_t of every iteration would cost, and the error of
  # what is shown of it (after `restoration`, if there is one), within 0..1, summed over pixels.
  prefix_nats: jax.Array | None = None  # [T, B] L^x(r_t)
  squared_error: jax.Array | None = None  # [T, B]; None if only some prefixes are restored
  restored: Restored | None = None  # these


class ConvDraw(weights_lib.Float32Parameters, nn.Module):
  """Convolutional DRAW with one layer or more, for images of any size.

  `apply(params, key, images)` infers; the other entry points are methods:
  `apply(params, key, images, groups, method='reconstruct')` and
  `apply(params, key, count, image_size, method='sample')`.

  Everywhere `key` is one PRNG key, or B of them, one per image: image b's randomness then depends
  on its own key alone, whatever the batch around it.

  A layer of stride 0 is fully connected: its maps have one cell, whose linear operations read all
  of the layer below. One such layer alone is DRAW without attention (Gregor et al., 2015), with a
  learned prior.

  Shapes: B images of H x W pixels and C channels, R channels of the canvas, T iterations, L layers
  with Z latent maps of h x w cells each (`recurrence`).

  Attributes:
    channels: C, of the images.
    pixels: p(x | canvas), `pixels.GaussianPixels` or another.
    iterations: T.
    features: F, LSTM feature maps of the layer nearest the pixels.
    latents: Z, latent maps per iteration of that layer.
    kernel: side of all convolutions' kernels, odd.
    stride: between the image and that layer's maps; 0 = fully connected.
    upper: `layers.Layer` of the further layers, from the pixels up.
    posterior: 'gaussian', with inferred mean and variance; or with widths that depend on map and
      iteration alone, so that latents can be coded (section 3): 'constant', Gaussian; 'rounded',
      the middle of the bin that the mean is in; 'uniform', around the mean, for dithered
      quantisation.
    image_size: (H, W), needed only with fully connected layers: they fit one size.
    compute_dtype: of the convolutions' operands and results; parameters and their gradients,
      cells, canvas, latents and likelihoods are float32 always.
    remat: recompute each iteration in the backward pass instead of storing it.
    image_kernel: side of the kernels between the image and the first layer: odd, or its stride, and
      each cell reads and paints its own pixels alone; 0: `kernel`, or 2 s + 1 from stride s = 3 on.
    bin_width: of 'rounded' and 'uniform', the width of bins before training, in standard deviations
      of the prior; 0: sqrt(12).
    gain: of 'rounded' and 'uniform', what posterior means are multiplied by before training;
      learned for each iteration and map. 0: nothing.
    price: of 'rounded', nats that being off by the width of a bin is worth when a bin is chosen
      (`latents.QuantisedPosterior.thrifty`), with linear paths in units of what it is worth to the
      canvas of that iteration; 0: the nearest bin, whatever it costs.
    linear: whether there are `linear_paths`, beyond the paper; with bins of width 1 at first.
    encoder_features: of the encoder of the layer nearest the pixels, if they are not F; 0: F.
    restoration: feature maps of the network that restores what is shown of a canvas, beyond the
      paper (`restoration`); 0: none.
    prefixes: whether inference also says what the canvas of every iteration would cost.
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
  image_kernel: int = 0
  bin_width: float = 0.0
  gain: float = 0.0
  price: float = 0.0
  linear: bool = False
  encoder_features: int = 0
  restoration: int = 0
  prefixes: bool = False

  @property
  def side(self):
    """Of the kernels between the image and the first layer."""
    return self.image_kernel or (self.kernel if self.stride <= 2 else 2 * self.stride + 1)

  @property
  def all_layers(self):
    """The `layers.Layer` of every layer, the one nearest the pixels first."""
    first = layers.Layer(self.features, self.latents, self.stride, self.encoder_features)
    return (first, *self.upper)

  def setup(self):
    c, r = self.channels, self.pixels.canvas_channels(self.channels)
    self._check_size(self.image_size)
    sizes = geometry_lib.sizes(self.all_layers, self.image_size)
    first = self.all_layers[0]
    # What reads x in (2); `encoder_below` reads eps_t.
    self.encoder_image = self.param(
        'encoder_image', nn.initializers.lecun_normal(),
        weights_lib.between(first, self.side, sizes[0], c, 4 * first.encoded))
    width = self.bin_width or (1.0 if self.linear else math.sqrt(12))
    log_sigma = math.log(width / math.sqrt(12)) / self._width_speed
    raw, below = [], (c, r)
    for i, layer in enumerate(self.all_layers):
      raw.append(weights_lib.create(
          self.param, i, self.all_layers, (self.kernel, self.kernel if i else self.side), sizes[i],
          *below, 0 if self.posterior == 'gaussian' else self.iterations, log_sigma,
          self.iterations if self.linear and not i else 0,
          math.log(self.gain) / WIDTH_SPEED if self.gain else None))
      below = (layer.encoded, layer.features)  # channels that go up from here, and down to here
    self.raw = tuple(raw)  # `weights.Weights` of each layer, as created
    # r_0: a bias of all pixels, [R]; or of each, [H, W, R], where they have weights of their own.
    pixels = () if self.stride else tuple(self.image_size)
    self.initial_canvas = self.param('initial_canvas', lambda key: jnp.broadcast_to(
        self.pixels.initial_canvas(c), (*pixels, r)))
    self.restores = None
    if self.restoration:
      self.restores = restoration_lib.create(
          self.param, c, self.restoration, self.iterations, self.stride)

  def _check_size(self, image_size):
    """Raises a UserError if a layer is fully connected and not to images of that size."""
    if any(not layer.stride for layer in self.all_layers) and (
        image_size is None or tuple(image_size) != tuple(self.image_size or ())):
      raise UserError(
          f'fully connected layers (stride 0) fit images of one size: image_size is '
          f'{self.image_size}, the images are {image_size}')

  def _check_images(self, images):
    arguments.images(images, 'BHWC', self.pixels.grey_levels, 'images', self.channels)

  def __call__(
      self, key: ArrayLike, images: arguments.Array, temperature: ArrayLike = 1.0, some: int = 0,
  ) -> Inference:
    """Infers: z_t ~ q_t at every iteration.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      temperature: scales the posterior's standard deviation; 0 infers with posterior means.
      some: of a model with `restoration`, how many prefixes of an image are restored, at random,
        as training does; 0: all.
    Returns:
      `Inference`.
    """
    self._check_images(images)
    arguments.temperature(temperature)
    keys = image_keys(key, len(images))

    def draw_latent(t, layer, posterior, prior):
      if self.price:
        return posterior.thrifty(prior, self.prices(layer, t))
      return posterior.at(temperature * self._noise(keys, t, layer, posterior))

    canvas, outputs = self._unroll(images.shape, images, draw_latent)
    squared_error, restored = outputs.squared_error, None
    if outputs.canvas is not None:
      if some:
        squared_error, restored = None, self._restored(keys, images, outputs, some)
      else:
        after = jnp.arange(1, self.iterations + 1)
        squared_error = jax.lax.map(
            lambda one: self._squared_error(images, *one), (outputs.canvas, after))
    return Inference(canvas, outputs.kl_nats, outputs.log_ratio_nats.sum(0),
                     prefix_nats=outputs.prefix_nats, squared_error=squared_error,
                     restored=restored)

  def _squared_error(self, images, canvas, iterations):
    """[B] of what is shown of canvases [B, h, w, s s, R] after so many `iterations`."""
    state = recurrence.State((), canvas, None, jnp.broadcast_to(iterations, len(images)))
    shown = self.pixels.mean(self.canvas(state, images.shape[1:3]))
    return ((self.unit_interval(images) - jnp.clip(shown, 0, 1)) ** 2).sum((1, 2, 3))

  def _restored(self, keys, images, outputs, some):
    """`Restored`, of `some` prefixes of each image, drawn from its key.

    The canvases are taken as they are: the recurrence does not learn from them.
    """
    fractions = jax.vmap(
        lambda key: jax.random.uniform(jax.random.fold_in(key, noise_lib.RESTORED)))(keys)
    # [some, B], one of each part of the iterations
    strata = jnp.arange(some)[:, None].astype(jnp.float32) + fractions[None]
    at = (strata * (self.iterations / some)).astype(jnp.int32).clip(0, self.iterations - 1)
    canvases, before = jax.lax.stop_gradient(
        (outputs.canvas[at, jnp.arange(len(images))], outputs.squared_error))
    repeated = jnp.tile(images, (some, 1, 1, 1))
    error = self._squared_error(
        repeated, canvases.reshape(-1, *canvases.shape[2:]), at.reshape(-1) + 1)
    return Restored(at, error.reshape(some, -1), before)

  def reconstruct(
      self, key: ArrayLike, images: arguments.Array, groups: ArrayLike,
      temperature: ArrayLike = 1.0, posterior_temperature: ArrayLike = 1.0,
      generation_key: ArrayLike | None = None,
  ) -> jax.Array:
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
      [B, H, W, R] the canvas r_T; of a model with `prefixes`, at temperature 0, that of the last
      group that is kept, for what that is trained to be.
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
      its_keys = jnp.where(stored, keys, others)
      noise = self._noise(its_keys, t, layer, prior)
      kept = (posterior.thrifty(prior, self.prices(layer, t)) if self.price
              else posterior.at(posterior_temperature * noise))
      return jnp.where(
          stored[:, None, None, None], kept,
          self._generate(its_keys, t, layer, prior, noise, temperature))

    stops = jnp.where(temperature == 0, groups, self.iterations) if self.prefixes else None
    return self._unroll(images.shape, images, draw_latent, stops)[0]

  def sample(
      self, key: ArrayLike, count: int, image_size: Sequence[int], temperature: ArrayLike = 1.0,
  ) -> jax.Array:
    """Generates: z_t ~ p_t at every iteration.

    Args:
      key: one PRNG key, or [count] of them.
      count: B, how many images.
      image_size: (H, W), any.
      temperature: scales the prior's standard deviation.
    Returns:
      [B, H, W, R] the canvas r_T.
    """
    arguments.temperature(temperature)
    count, image_size = arguments.count(count), arguments.size(image_size, 'HW', 'image_size')
    keys = image_keys(key, count)

    def draw_latent(t, layer, posterior, prior):
      del posterior
      noise = self._noise(keys, t, layer, prior)
      return self._generate(keys, t, layer, prior, noise, temperature)

    return self._unroll((count, *image_size, self.channels), None, draw_latent)[0]

  @property
  def canvas_pixels(self):
    """What the canvas says of pixels: p(x | z) itself, here."""
    return self.pixels

  def unit_interval(self, images: arguments.Array) -> jax.Array:
    """uint8 values 0..grey_levels-1 -> x in [0, 1], float32."""
    self._check_images(images)
    return images.astype(jnp.float32) / (self.pixels.grey_levels - 1)

  def _unroll(self, shape, images, draw_latent, stops=None):
    """T iterations of `recurrence.step` by `jax.lax.scan`.

    Args:
      shape: (B, H, W, C) of the images.
      images: uint8 of that shape, or None to generate.
      draw_latent: as of `recurrence.step`.
      stops: None, or [B] ints, iterations after which an image's canvas stays as it is.
    Returns:
      ([B, H, W, R] canvas r_T, `recurrence.Output` with a leading T on every array).
    """
    b, *image_size, _ = shape
    weights = self.prepare(image_size)
    image = None if images is None else self.see(images)

    def iterate(state, t):
      new, output = self.iterate(weights, t, image_size, image, state, draw_latent)
      if stops is not None:
        goes_on = t < stops
        new = new._replace(
            canvas=jnp.where(goes_on[:, None, None, None, None], new.canvas, state.canvas),
            iterations=None if new.iterations is None else jnp.where(
                goes_on, new.iterations, state.iterations))
      return new, output

    if self.remat:
      iterate = jax.checkpoint(iterate, prevent_cse=False)
    state, outputs = jax.lax.scan(
        iterate, self.initial_state(b, image_size), jnp.arange(self.iterations))
    return self.canvas(state, image_size), outputs

  def _generate(self, keys, t, layer, prior, noise, temperature):
    """z_t from p_t (4); in bins, what a decoder would have got from a posterior on that point.

    Args:
      keys: [B], one per image, for the dither.
      t, layer, prior: as `draw_latent` gets them.
      noise: of `_noise`, what z_t is drawn with.
      temperature: scales the prior's standard deviation, and the dither's.
    """
    z = prior.at(temperature * noise)
    if self.posterior in ('gaussian', 'constant'):
      return z
    dithered = self.posterior == 'uniform'
    bins = QuantisedPosterior(z, self._log_sigma(layer)[t], dithered)
    return bins.at(
        temperature * self._noise(keys, noise_lib.DITHER + t, layer, prior) if dithered else 0.0)

  def _noise(self, keys, number, layer, distribution):
    """[B, h, w, Z] draws of N(0, 1): one of those of that layer, as large as a distribution of it.

    Args:
      keys: [B], one per image.
      number: t; `noise.DITHER` + t for the dither.
      layer: 0, 1, ...
      distribution: q_t or p_t of that layer.
    """
    if layer > 0:  # layer 0 draws from the images' keys, the layers above from keys of their own
      number_of_layer = noise_lib.layer(self.iterations, layer)
      keys = jax.vmap(lambda key: jax.random.fold_in(key, number_of_layer))(keys)
    return standard_normal(keys, number, distribution.mean.shape[1:])

  def prepare(self, image_size):
    """`weights.Weights` of each layer as `iterate` wants them, for images of (H, W).

    Raises:
      UserError: fully connected layers do not fit that size.
    """
    self._check_size(image_size)
    return weights_lib.prepare(self.geometry(image_size), self.all_layers, self.raw)

  def see(self, images, contrast=None):
    """[B, H, W, C] uint8 -> `recurrence.Image`, as `iterate` wants it.

    Args:
      contrast: what to multiply the images' differences from mid grey by, if anything.
    """
    here = self.geometry(images.shape[1:3])[0]
    x = self.unit_interval(images)
    if contrast is not None:
      x = 0.5 + contrast * (x - 0.5)
    x = layers.space_to_depth(x, here.block)
    kernel = weights_lib.prepared(here, self.all_layers[0], 'encoder_image', self.encoder_image)
    gates = layers.add_bias(
        here.grid.convolve([(here.read(x), kernel)]), self.raw[0].encoder_bias)
    return recurrence.Image(
        x.reshape(*x.shape[:3], here.block[0] * here.block[1], -1), gates)

  def initial_state(self, batch, image_size):
    """`recurrence.State` of B = `batch` images before the first iteration.

    h = c = 0; r_0 is a learned bias (section 2).
    """
    geometry, states = self.geometry(image_size), []
    for i, (here, layer) in enumerate(zip(geometry, self.all_layers, strict=True)):
      encoder, decoder = (
          here.grid.zeros(batch, f) for f in (layer.encoded, layer.features))
      h_e, h_d = map(here.grid.transform, (encoder, decoder))
      above = h_d if i + 1 < len(geometry) else None
      states.append(recurrence.LayerState(h_e, encoder, h_d, decoder, above))
    (a, b), size = geometry[0].block, geometry[0].size
    r = self.initial_canvas.shape[-1]
    bias = self.initial_canvas.reshape(-1, r)  # [1, R]; fully connected: [H W, R]
    canvas = jnp.broadcast_to(bias, (batch, *size, a * b, r))
    memory = linear_paths.nothing(batch, size, a * b * self.channels) if self.linear else None
    iterations = jnp.zeros(batch, jnp.int32) if self.restoration else None
    return recurrence.State(tuple(states), canvas, memory, iterations)

  def iterate(self, weights, t, image_size, image, state, draw_latent):
    """One of the iterations that `apply` makes; for codecs, which need them one by one.

    Args:
      weights: of `prepare`.
      t: which, 0..T-1.
      image_size: (H, W).
      image: of `see`, or None to generate.
      state: of `initial_state`, or the iteration before.
      draw_latent: (t, layer, posterior, prior) -> z_t, as of `recurrence.step`.
    Returns:
      (`recurrence.State`, `recurrence.Output`).
    """
    geometry = self.geometry(image_size)
    inside = layers.space_to_depth(jnp.ones((1, *image_size, 1)), geometry[0].block)[0, ..., None]
    return recurrence.step(
        geometry, weights, self.pixels, inside, t, image, state, self._posterior_of, draw_latent,
        self.prefixes)

  def _posterior_of(self, t, layer, maps):
    """q_t (3) of maps [B, h, w, 2 Z], or [B, h, w, Z] where its widths are parameters."""
    if self.posterior == 'gaussian':
      return DiagonalGaussian.split(maps)
    mean, log_sigma = maps.astype(jnp.float32), self._log_sigma(layer)[t]
    if self.posterior == 'constant':
      return DiagonalGaussian(mean, jnp.broadcast_to(log_sigma, mean.shape))
    log_gain = self.raw[layer].posterior_log_gain
    if log_gain is not None:
      mean = jnp.exp(WIDTH_SPEED * log_gain[t])[None, None, None] * mean
    return QuantisedPosterior(mean, log_sigma, dithered=self.posterior == 'uniform')

  def canvas(self, state, image_size):
    """[B, H, W, R] the canvas r of a `recurrence.State` of images of (H, W), restored."""
    here = self.geometry(image_size)[0]
    canvas = state.canvas.reshape(*state.canvas.shape[:3], -1)
    canvas = layers.depth_to_space(canvas, here.block, image_size)
    if self.restores is None:
      return canvas
    return restoration_lib.restore(self.restores, canvas, state.iterations)

  def bin_widths(self, layer):
    """[T, Z] widths of the bins of a layer's latents, with posterior 'rounded' or 'uniform'."""
    return QuantisedPosterior(0.0, self._log_sigma(layer), False).width

  def _log_sigma(self, layer):
    """[T, Z] log standard deviations of q_t, where they are parameters.

    Those of bins without dither are not trained: of what rounding leaves, no gradient tells, and so
    bins would grow without end, for the nats that it saves.
    """
    log_sigma = self.raw[layer].posterior_log_sigma
    if self.posterior == 'rounded':
      log_sigma = jax.lax.stop_gradient(log_sigma)
    return self._width_speed * log_sigma

  def worth(self, layer):
    """[T, Z]: what being off by the width of a bin is worth, in `price`s."""
    worth = self.raw[layer].linear_worth
    if worth is None:
      return jnp.ones_like(self.raw[layer].posterior_log_sigma)
    return jax.lax.stop_gradient(worth)

  def prices(self, layer, t):
    """[1, 1, 1, Z]: the same in nats, of iteration t."""
    return (self.price * self.worth(layer)[t])[None, None, None]

  @property
  def _width_speed(self):
    return 1 if self.linear else WIDTH_SPEED  # with linear paths, bins are right from the start

  def geometry(self, image_size):
    """`geometry.Geometry` of each layer, for images of (H, W)."""
    return geometry_lib.of(
        self.all_layers, self.kernel, self.side, image_size, self.compute_dtype)

"""A transform codec with convolutional DRAW's decoder as its entropy model: one file, any rate.

It has no inference network. Iteration t, with the paper's equation numbers:

  eps_t = x - r_{t-1}                                               (1)
  z_t   = RDOQ of A_t eps_t / step_t, in place of (2) and (3)       `transform`, `rdoq`
  p_t   given h^d_{t-1} (4) and the context                         `context`
  r     = r_{t-1} + B_t (step_t z_t)                                `transform`
  h^d_t = LSTM(z_t, h^d_{t-1}, r)                                   (6)
  r_t   = r + W h^d_t                                               (7)

The post-filtered canvas r_t of every iteration is a picture: the bit stream is embedded, and the
multi-rate loss (`objective`) trains every truncation point. Shapes are those of `recurrence`, with
D = s s C values of a cell of s x s pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from conv_draw.model import arguments, geometry, image_model, layers, recurrence
from conv_draw.model.latents import DiagonalGaussian, QuantisedPosterior, latent_nats
from conv_draw.model.noise import BEYOND, standard_normal
from conv_draw.progressive import context, iteration, post_filter, rdoq, transform
from conv_draw.progressive import weights as weights_lib
from conv_draw.progressive.iteration import State
from conv_draw.progressive.pixels import SquaredErrorPixels

FILTERED_POINTS = 2 * BEYOND  # `noise` number: the truncation points that training filters


class Filtered(NamedTuple):
  """The post-filtered pictures of some truncation points of B images."""

  at: jax.Array  # int32 [some, B] t - 1 of their canvases r_t, drawn for each image
  squared_error: jax.Array  # [some, B] of the pictures, as `Inference.squared_error`
  canvas_squared_error: jax.Array  # [T, B] of all canvases before the filter; without gradient


class Inference(NamedTuple):
  """The result of inference on B images; the first three fields are `conv_draw.Inference`'s."""

  canvas: jax.Array  # [B, H, W, C] the picture after T iterations
  kl_nats: jax.Array  # [T, 1, B] -log p_t(z_t)
  log_ratio_nats: jax.Array  # [B] their sum over t
  canvas_nats: jax.Array  # [T, B] L^x(r_t)
  # [T, B] of the picture of r_t clipped to 0..1, summed over pixels; None with `filtered`.
  squared_error: jax.Array | None
  filtered: Filtered | None = None  # in training, which filters some truncation points


class Prepared(NamedTuple):
  """The parameters in the form in which iterations read them, for images of one size."""

  net: recurrence.Net
  initial_canvas: jax.Array
  post_filter: post_filter.Weights | None


class Progressive(image_model.ImageModel, nn.Module):
  """The progressive model, for images of any size; its methods are those of `ConvDraw`.

  Attributes:
    channels: C, of the images.
    iterations: T, the number of latent groups.
    features: F, LSTM feature maps.
    latents: Z, latent maps of an iteration.
    kernel: side of the kernels between maps, odd.
    stride: s, side of a cell in pixels.
    image_kernel: side of the kernels between image and maps: odd; s, so that each cell reads and
      synthesises its own pixels alone; or 0 for 2 s + 1.
    lmbda: RDOQ's Lagrange multiplier, relative to the distortion-rate slope of the iteration; 0:
      quantisation to the nearest bin.
    filter_features: feature maps of the post-filter; 0: no post-filter.
    compute_dtype: of the convolutions' operands; everything else is float32.
    remat: recompute each iteration in the backward pass instead of storing it.
    grey_levels: number of values of a pixel.
  """

  channels: int
  iterations: int = 18
  features: int = 64
  latents: int = 24
  kernel: int = 3
  stride: int = 8
  image_kernel: int = 0
  lmbda: float = 0.0
  filter_features: int = 0
  compute_dtype: jnp.dtype = jnp.float32
  remat: bool = False
  grey_levels: int = 256

  posterior = 'rounded'  # scalar quantisation, as of `ConvDraw.posterior`

  @property
  def pixels(self) -> SquaredErrorPixels:
    """The distribution whose L^x (11) is the squared error."""
    return SquaredErrorPixels(self.grey_levels)

  @property
  def all_layers(self) -> tuple[layers.Layer, ...]:
    """The one layer."""
    return (layers.Layer(self.features, self.latents, self.stride),)

  def setup(self):
    side = self._image_kernel
    self.raw = weights_lib.create(
        self.param, self.all_layers[0], self.kernel, side, self.channels, self.iterations)
    self.initial_canvas = self.param(
        'initial_canvas', lambda key: self.pixels.initial_canvas(self.channels))
    self.filter_weights = None
    if self.filter_features:
      self.filter_weights = post_filter.create(
          self.param, self.channels, self.filter_features, self.iterations, self.stride)

  @property
  def _image_kernel(self):
    return self.image_kernel or 2 * self.stride + 1

  @staticmethod
  def role(names: Sequence[str]) -> weights_lib.Role:
    """The `Role` of a parameter, by its path below 'params'."""
    return weights_lib.ROLES[names[0].rstrip('_0123456789')]

  def __call__(
      self, key: ArrayLike, images: arguments.Array, temperature: ArrayLike = 1.0, some: int = 0,
  ) -> Inference:
    """Quantises the latents of images; returns the cost of every truncation point.

    Args:
      key: one PRNG key, or [B] of them, which draw the truncation points of `some`; nothing else is
        random.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      temperature: without effect, as of `ConvDraw` with posterior 'rounded'.
      some: number of random truncation points of an image that are post-filtered, in training; 0:
        all. Ignored without a post-filter.
    Returns:
      `Inference`.
    """
    keys = image_model.inference_keys(self, key, images, temperature)
    prepared = self.prepare(images.shape[1:3])
    draw_latent = lambda t, q, p, w: self._quantise(q, p, w)
    picture, outputs = self._unroll(prepared, len(images), images, draw_latent)
    kl_nats, canvas_nats, squared_error, canvases = outputs
    filtered = None
    if self.filter_features and some:
      filtered = self._filtered(prepared, keys, images, canvases, squared_error, some)
      squared_error = None
    elif self.filter_features:
      after = jnp.arange(1, self.iterations + 1)
      squared_error = jax.lax.map(
          lambda one: self._squared_error(prepared, images, *one), (canvases, after))
    return Inference(picture, kl_nats, kl_nats.sum((0, 1)), canvas_nats, squared_error, filtered)

  def _squared_error(self, prepared, images, canvas, iterations):
    """[B] of the pictures of canvases [B, h, w, s s, R] after `iterations`."""
    picture = self._picture(prepared, canvas, jnp.broadcast_to(iterations, len(images)))
    return ((self.unit_interval(images) - jnp.clip(picture, 0, 1)) ** 2).sum((1, 2, 3))

  def _filtered(self, prepared, keys, images, canvases, squared_error, some):
    """`Filtered` of `some` truncation points of each image, drawn from its key.

    No gradient passes to the canvases, nor to the recurrence.
    """
    fractions = jax.vmap(
        lambda key: jax.random.uniform(jax.random.fold_in(key, FILTERED_POINTS)))(keys)
    # [some, B]: stratified, one point in each of `some` parts of the iterations
    strata = jnp.arange(some)[:, None].astype(jnp.float32) + fractions[None]
    at = (strata * (self.iterations / some)).astype(jnp.int32).clip(0, self.iterations - 1)
    canvases, before = jax.lax.stop_gradient(
        (canvases[at, jnp.arange(len(images))], squared_error))
    error = self._squared_error(
        prepared, jnp.tile(images, (some, 1, 1, 1)), canvases.reshape(-1, *canvases.shape[2:]),
        at.reshape(-1) + 1)
    return Filtered(at, error.reshape(some, -1), before)

  def reconstruct(
      self, key: ArrayLike, images: arguments.Array, groups: ArrayLike,
      temperature: ArrayLike = 1.0, posterior_temperature: ArrayLike = 1.0,
      generation_key: ArrayLike | None = None,
  ) -> jax.Array:
    """Keeps the first latent groups of images, and generates or omits the others.

    Args:
      key, images, groups, generation_key: as of `ConvDraw.reconstruct`.
      temperature: of the prior that generates the other groups; 0 omits them, as every r_t is
        trained as a picture.
      posterior_temperature: without effect.
    Returns:
      [B, H, W, C] the picture.
    """
    groups, _, keys = image_model.reconstruct_arguments(
        self, key, images, groups, temperature, posterior_temperature, generation_key)

    def draw_latent(t, q, p, w):
      stored = t < groups
      return jnp.where(stored[:, None, None, None], self._quantise(q, p, w),
                       self._generate(keys, t, p, w, temperature))

    stops = jnp.where(temperature == 0, groups, self.iterations)
    prepared = self.prepare(images.shape[1:3])
    return self._unroll(prepared, len(images), images, draw_latent, stops)[0]

  def sample(
      self, key: ArrayLike, count: int, image_size: Sequence[int], temperature: ArrayLike = 1.0,
  ) -> jax.Array:
    """Generates B = `count` pictures [B, H, W, C], as `ConvDraw.sample`."""
    keys, image_size = image_model.sample_arguments(key, count, image_size, temperature)
    draw_latent = lambda t, q, p, w: self._generate(keys, t, p, w, temperature)
    return self._unroll(self.prepare(image_size), len(keys), None, draw_latent)[0]

  def _quantise(self, q, p, w):
    """z_t of q_t, by RDOQ or to the nearest bins."""
    if not self.lmbda:
      return q.at(0.0)
    return rdoq.quantise(q, p, self.lmbda * w.distortion_weight[None, None, None])

  @staticmethod
  def _generate(keys, t, p, w, temperature):
    """z_t ~ p_t, quantised."""
    z = p.at(temperature * standard_normal(keys, t, p.mean.shape[1:]))
    return QuantisedPosterior(z, w.log_sigma, False).at(0.0)

  def _unroll(self, prepared, batch, images, draw_latent, stops=None):
    """T iterations of `_step` by `jax.lax.scan`.

    Args:
      prepared: of `prepare`.
      batch: B.
      images: [B, H, W, C] uint8, or None to generate.
      draw_latent: as of `_step`.
      stops: None, or [B] ints, iterations after which an image's canvas does not change.
    Returns:
      ([B, H, W, C] the picture, the second result of `_step` with a leading T).
    """
    image = None if images is None else self.observe(prepared, self.unit_interval(images))

    def iterate(state, t):
      new, output = self._step(prepared, t, image, state, draw_latent)
      if stops is not None:
        goes_on = t < stops
        new = new._replace(
            canvas=jnp.where(goes_on[:, None, None, None, None], new.canvas, state.canvas),
            iterations=jnp.where(goes_on, new.iterations, state.iterations))
      return new, output

    if self.remat:
      iterate = jax.checkpoint(iterate, prevent_cse=False)
    state, outputs = jax.lax.scan(
        iterate, self.start(prepared, batch), jnp.arange(self.iterations))
    return self.canvas(prepared, state), outputs

  def _step(self, prepared, t, image, state, draw_latent: Callable):
    """One iteration.

    Args:
      draw_latent: (t, q_t or None without an image, p_t, `Weights` of iteration t) -> z_t; called
        once per coding pass, for the cells of that pass.
    Returns:
      (`State` after iteration t, (nats of z_t [1, B], L^x(r_t) [B], squared error of r_t [B], r_t),
      or None without an image).
    """
    net = iteration.at(prepared.net, t)
    q = None if image is None else iteration.posterior(net, self.pixels, t, image, state)
    hidden = recurrence.prior(net, state.decoder, None)  # (4)
    first, second = map(jnp.asarray, context.checkerboard(net.here.size))
    p_1 = iteration.prior(net, t, hidden, state.context)
    z_1 = draw_latent(t, q, p_1, net.w) * first.astype(jnp.float32)[None]
    p_2 = iteration.prior_of_second_pass(net, t, hidden, state.context, z_1)
    z = jnp.where(jnp.broadcast_to(second, z_1.shape), draw_latent(t, q, p_2, net.w), z_1)
    state = iteration.update(net, t, state, z)
    if image is None:
      return state, None
    first = jnp.broadcast_to(first, z.shape)
    nats, _ = latent_nats(q, jax.tree.map(lambda a, b: jnp.where(first, a, b), p_1, p_2), z)
    valid = net.here.valid()
    error = image.x - jnp.clip(self.pixels.mean(state.canvas), 0, 1)
    return state, (
        nats.sum((1, 2, 3))[None],
        (self.pixels.cost(image.x, state.canvas) * valid).sum((1, 2, 3, 4)),
        (error**2 * valid).sum((1, 2, 3, 4)),
        state.canvas if self.filter_features else None)

  def _picture(self, prepared, canvas, iterations):
    """[B, H, W, C] post-filtered canvases [B, h, w, s s, R]."""
    canvas = prepared.net.here.to_image(canvas)
    if prepared.post_filter is None:
      return canvas
    return post_filter.apply(prepared.post_filter, canvas, iterations)

  # One iteration in parts, for codecs: `codec.step_model.StepModel`.

  coding_passes = context.CODING_PASSES
  embedded = True

  def prepare(self, image_size: Sequence[int]) -> Prepared:
    """The parameters in the form in which the functions below read them, for images of (H, W)."""
    here, = geometry.of(
        self.all_layers, self.kernel, self._image_kernel, image_size, self.compute_dtype)
    return Prepared(
        recurrence.Net(here, weights_lib.prepare(here, self.all_layers[0], self.raw)),
        self.initial_canvas, self.filter_weights)

  def observe(self, prepared: Prepared, x: jax.Array) -> recurrence.Image:
    """x [B, H, W, C] in [0, 1] in the form in which `posteriors` reads it."""
    here = prepared.net.here
    return recurrence.Image(here.split_cells(layers.space_to_depth(x, here.block)), None)

  def start(self, prepared: Prepared, batch: int) -> State:
    """The state before the first iteration, of B = `batch` images."""
    here = prepared.net.here
    zeros = here.grid.zeros(batch, self.features)
    block = here.block[0] * here.block[1]
    canvas = jnp.broadcast_to(
        prepared.initial_canvas[None], (batch, *here.size, block, len(prepared.initial_canvas)))
    return State(
        recurrence.LayerState(None, None, here.grid.transform(zeros), zeros, None), canvas,
        context.initial_context(batch, here.size, block * self.channels),
        jnp.zeros(batch, jnp.int32))

  def posteriors(self, prepared: Prepared, t: ArrayLike, image: recurrence.Image,
                 state: State) -> tuple[State, list]:
    """(`state` unchanged, [q_t])."""
    net = iteration.at(prepared.net, t)
    return state, [iteration.posterior(net, self.pixels, t, image, state)]

  def prior(self, prepared: Prepared, t: ArrayLike, layer: int, coding_pass: int, state: State,
            zs: Sequence[Any]) -> DiagonalGaussian:
    """p_t of a coding pass, given z_t of the earlier passes."""
    del layer
    net = iteration.at(prepared.net, t)
    hidden = recurrence.prior(net, state.decoder, None)
    if not coding_pass:
      return iteration.prior(net, t, hidden, state.context)
    first = context.checkerboard(net.here.size)[0]
    z_1 = zs[0] * first.astype(jnp.float32)[None]
    return iteration.prior_of_second_pass(net, t, hidden, state.context, z_1)

  def update(self, prepared: Prepared, t: ArrayLike, state: State, zs: Sequence[Any]) -> State:
    """The state after iteration t, given [z_t]."""
    return iteration.update(iteration.at(prepared.net, t), t, state, zs[0])

  def canvas(self, prepared: Prepared, state: State) -> jax.Array:
    """[B, H, W, C] the picture of a state: its post-filtered canvas."""
    return self._picture(prepared, state.canvas, state.iterations)

  def quantisation_steps(self, prepared: Prepared, layer: int) -> jax.Array:
    """[T, Z] quantisation steps of the latents."""
    del layer
    return QuantisedPosterior(0.0, prepared.net.w.log_sigma, False).width

  def positions(self, prepared: Prepared, t: ArrayLike, layer: int):
    """bool [coding passes, h, w, Z]: the latents that each coding pass of iteration t codes."""
    del layer
    here, w = prepared.net
    return jnp.asarray(context.checkerboard(here.size)) & transform.active(
        t, here.size, w.distortion_weight[t])[None]

  def distortion_weights(self, prepared: Prepared, layer: int) -> jax.Array | None:
    """[T, Z] RDOQ's distortion weights, nats of an error of one bin; None: to the nearest bins."""
    del layer
    return self.lmbda * prepared.net.w.distortion_weight if self.lmbda else None

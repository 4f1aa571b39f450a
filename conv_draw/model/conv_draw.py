"""Convolutional DRAW (Gregor et al., 2016): the recurrence, unrolled by `jax.lax.scan`.

`recurrence.step` is one iteration. `ConvDraw` has the parameters of all iterations and the ways to
run them: inference, reconstruction and sampling, which differ in the source of z_t. A codec runs
one iteration in parts, by the functions of `codec.step_model.StepModel` at the end.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from conv_draw.model import arguments, image_model, layers, recurrence
from conv_draw.model import geometry as geometry_lib
from conv_draw.model import latents as latents_lib
from conv_draw.model import noise as noise_lib
from conv_draw.model import weights as weights_lib
from conv_draw.model.latents import Bins, DiagonalGaussian, QuantisedPosterior
from conv_draw.model.noise import standard_normal


class Inference(NamedTuple):
  """The result of inference on B images."""

  canvas: jax.Array  # [B, H, W, R] r_T, the parameters of p(x | z)
  kl_nats: jax.Array  # [T, L, B] KL(q_t | p_t) (5), the layer nearest the pixels first
  log_ratio_nats: jax.Array  # [B] log q(z | x) - log p(z) at the drawn z


class Prepared(NamedTuple):
  """The parameters in the form in which iterations read them, for images of one size."""

  nets: tuple[recurrence.Net, ...]  # one per layer, the layer nearest the pixels first
  encoder_image: Any  # the kernel of x in (2)
  initial_canvas: jax.Array  # r_0


class ConvDraw(image_model.ImageModel, nn.Module):
  """Convolutional DRAW with one or more layers, for images of any size.

  `apply(params, key, images)` infers; the other entry points are methods:
  `apply(params, key, images, groups, method='reconstruct')` and
  `apply(params, key, count, image_size, method='sample')`.

  Every `key` is one PRNG key, or B keys, one per image. With B keys, the randomness of an image
  depends on its own key alone, whatever the batch around it.

  A layer of stride 0 is fully connected: its maps have one cell, which reads all of the layer
  below. One such layer alone is DRAW without attention (Gregor et al., 2015), with a learned prior.

  Shapes: B images of H x W pixels and C channels, R channels of the canvas, T iterations, L layers
  with Z latent maps of h x w cells each (`recurrence`).

  Attributes:
    channels: C, of the images.
    pixels: p(x | canvas), `pixels.GaussianPixels` or another distribution.
    iterations: T.
    features: F, LSTM feature maps of the layer nearest the pixels.
    latents: Z, latent maps of that layer.
    kernel: side of all convolutions' kernels, odd. From stride s = 3 on, kernels between the image
      and the first layer have side 2 s + 1, so that each cell reads all of its pixels.
    stride: between the image and the first layer's maps; 0 = fully connected.
    upper: `layers.Layer` of the further layers, from the pixels up.
    posterior: 'gaussian', with inferred mean and variance; or, so that latents can be coded
      (section 3), with an input-independent variance: 'constant', a Gaussian; 'rounded', scalar
      quantisation of the mean; 'uniform', dithered (universal) quantisation of the mean.
    bins: `latents.Bins`, initial quantisation steps and gain of the last two.
    image_size: (H, W) of all images, needed by fully connected layers alone.
    compute_dtype: of the convolutions' operands and results. Parameters, their gradients, LSTM
      cells, canvas, latents and likelihoods are float32.
    remat: recompute each iteration in the backward pass instead of storing it.
    winograd: whether float32 on CPUs uses Winograd convolutions, which are faster and have no
      forward-mode derivatives (`jax.jvp`).
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
  bins: Bins = Bins()
  image_size: tuple[int, int] | None = None
  compute_dtype: jnp.dtype = jnp.float32
  remat: bool = False
  winograd: bool = True

  @property
  def all_layers(self) -> tuple[layers.Layer, ...]:
    """All layers, the layer nearest the pixels first."""
    return (layers.Layer(self.features, self.latents, self.stride), *self.upper)

  def setup(self):
    c, r = self.channels, self.pixels.canvas_channels(self.channels)
    geometry_lib.check_size(self.all_layers, self.image_size, self.image_size)
    sizes = geometry_lib.sizes(self.all_layers, self.image_size)
    # The kernel of x in (2); that of eps_t is `encoder_below` of the first layer.
    self.encoder_image = self.param(
        'encoder_image', nn.initializers.lecun_normal(),
        weights_lib.between(self.all_layers[0], self._image_kernel, sizes[0], c, 4 * self.features))
    bins = {'gaussian': None, 'constant': Bins()}.get(self.posterior, self.bins)
    raw, below = [], (c, r)
    for i, layer in enumerate(self.all_layers):
      raw.append(weights_lib.create(
          self.param, i, self.all_layers, (self.kernel, self.kernel if i else self._image_kernel),
          sizes[i], *below, bins, self.iterations))
      below = (layer.features, layer.features)  # channels up from this layer, and down to it
    self.raw = tuple(raw)  # `weights.Weights` of each layer, as created
    # r_0: one bias [R] for all pixels; one per pixel, [H, W, R], in fully connected models.
    pixels = () if self.stride else tuple(self.image_size)
    self.initial_canvas = self.param('initial_canvas', lambda key: jnp.broadcast_to(
        self.pixels.initial_canvas(c), (*pixels, r)))

  @property
  def _image_kernel(self):
    return self.kernel if self.stride <= 2 else 2 * self.stride + 1

  @staticmethod
  def role(names: Sequence[str]) -> weights_lib.Role:
    """The `Role` of a parameter, by its path below 'params'."""
    return weights_lib.role(names[0])

  def __call__(
      self, key: ArrayLike, images: arguments.Array, temperature: ArrayLike = 1.0,
  ) -> Inference:
    """Infers the latents of images: z_t ~ q_t at every iteration.

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      temperature: scales the posterior's standard deviation; 0 infers with posterior means.
    Returns:
      `Inference`.
    """
    keys = image_model.inference_keys(self, key, images, temperature)

    def draw_latent(t, layer, posterior, prior, w):
      del prior, w
      return posterior.at(temperature * self._noise(keys, t, layer, posterior))

    canvas, outputs = self._unroll(images.shape, images, draw_latent)
    return Inference(canvas, outputs.kl_nats, outputs.log_ratio_nats.sum(0))

  def reconstruct(
      self, key: ArrayLike, images: arguments.Array, groups: ArrayLike,
      temperature: ArrayLike = 1.0, posterior_temperature: ArrayLike = 1.0,
      generation_key: ArrayLike | None = None,
  ) -> jax.Array:
    """Keeps the first latent groups of images and generates the others (section 4.4).

    Args:
      key: one PRNG key, or [B] of them.
      images: [B, H, W, C] uint8, values 0..grey_levels-1.
      groups: int or [B] ints in 0..T, the number of groups kept: z_t ~ q_t for t <= groups.
      temperature: scales the standard deviation of p_t, from which the other groups are drawn:
        1 for its full variance, 0 for its mean.
      posterior_temperature: scales that of q_t.
      generation_key: as `key`, for the generated groups. Another key gives another completion of
        the same stored latents. Default: `key`.
    Returns:
      [B, H, W, R] the canvas r_T.
    """
    groups, keys, generation_keys = image_model.reconstruct_arguments(
        self, key, images, groups, temperature, posterior_temperature, generation_key)

    def draw_latent(t, layer, posterior, prior, w):
      stored = t < groups
      its_keys = jnp.where(stored, keys, generation_keys)
      noise = self._noise(its_keys, t, layer, prior)
      return jnp.where(
          stored[:, None, None, None], posterior.at(posterior_temperature * noise),
          self._generate(its_keys, t, layer, prior, w, noise, temperature))

    return self._unroll(images.shape, images, draw_latent)[0]

  def sample(
      self, key: ArrayLike, count: int, image_size: Sequence[int], temperature: ArrayLike = 1.0,
  ) -> jax.Array:
    """Generates images: z_t ~ p_t at every iteration.

    Args:
      key: one PRNG key, or [count] of them.
      count: B.
      image_size: (H, W).
      temperature: scales the prior's standard deviation.
    Returns:
      [B, H, W, R] the canvas r_T.
    """
    keys, image_size = image_model.sample_arguments(key, count, image_size, temperature)

    def draw_latent(t, layer, posterior, prior, w):
      del posterior
      noise = self._noise(keys, t, layer, prior)
      return self._generate(keys, t, layer, prior, w, noise, temperature)

    return self._unroll((count, *image_size, self.channels), None, draw_latent)[0]

  def _unroll(self, shape, images, draw_latent):
    """T iterations of `recurrence.step` by `jax.lax.scan`.

    Args:
      shape: (B, H, W, C) of the images.
      images: uint8 of that shape, or None to generate.
      draw_latent: (t, layer, q_t or None, p_t, the layer's `Weights`) -> z_t.
    Returns:
      ([B, H, W, R] canvas r_T, `recurrence.Output` whose arrays have a leading T).
    """
    b, *image_size, _ = shape
    prepared = self.prepare(image_size)
    nets = prepared.nets
    image = None if images is None else self.observe(prepared, self.unit_interval(images))

    def iterate(state, t):
      return recurrence.step(
          nets, self.pixels, lambda i, maps: self._posterior_of(nets[i].w, t, maps), image, state,
          lambda i, q, p: draw_latent(t, i, q, p, nets[i].w))

    if self.remat:
      iterate = jax.checkpoint(iterate, prevent_cse=False)
    state, outputs = jax.lax.scan(iterate, self.start(prepared, b), jnp.arange(self.iterations))
    return self.canvas(prepared, state), outputs

  def _generate(self, keys, t, layer, prior, w, noise, temperature):
    """z_t ~ p_t (4), quantised where q_t quantises.

    Args:
      keys: [B], one per image, for the dither.
      t, layer, prior, w: arguments of `draw_latent`.
      noise: of `_noise`, in standard deviations of the prior.
      temperature: scales the standard deviation of the prior and the dither.
    """
    z = prior.at(temperature * noise)
    if self.posterior in ('gaussian', 'constant'):
      return z
    dithered = self.posterior == 'uniform'
    bins = QuantisedPosterior(z, self._log_sigma(w)[t], dithered)
    return bins.at(
        temperature * self._noise(keys, noise_lib.DITHER + t, layer, prior) if dithered else 0.0)

  def _noise(self, keys, number, layer, distribution):
    """[B, h, w, Z] draws of N(0, 1).

    Args:
      keys: [B], one per image.
      number: t; `noise.DITHER` + t for the dither.
      layer: 0, 1, ...
      distribution: q_t or p_t of that layer, of the shape of the draws.
    """
    if layer > 0:  # layer 0 draws from the images' keys, a layer above from keys of its own
      number_of_layer = noise_lib.layer(self.iterations, layer)
      keys = jax.vmap(lambda key: jax.random.fold_in(key, number_of_layer))(keys)
    return standard_normal(keys, number, distribution.mean.shape[1:])

  def _posterior_of(self, w, t, maps):
    """q_t (3) of a layer's `Weights` and posterior maps."""
    if self.posterior == 'gaussian':
      return latents_lib.posterior(self.posterior, maps)
    log_gain = w.posterior_log_gain
    return latents_lib.posterior(
        self.posterior, maps, self._log_sigma(w)[t],
        None if log_gain is None else jnp.exp(weights_lib.WIDTH_SPEED * log_gain[t]))

  def _log_sigma(self, w):
    """[T, Z] log standard deviations of q_t, of an input-independent variance.

    With scalar quantisation they are constants: the straight-through gradient would have the nats
    that a larger quantisation step saves, without the quantisation error that it adds.
    """
    log_sigma = w.posterior_log_sigma
    if self.posterior == 'rounded':
      log_sigma = jax.lax.stop_gradient(log_sigma)
    return weights_lib.WIDTH_SPEED * log_sigma

  # One iteration in parts, for codecs: `codec.step_model.StepModel`.

  coding_passes = 1
  embedded = False  # r_T alone, not every r_t, is trained as a picture

  def prepare(self, image_size: Sequence[int]) -> Prepared:
    """The parameters in the form in which the functions below read them, for images of (H, W).

    Raises:
      UserError: the model has fully connected layers, which fit another size.
    """
    geometry_lib.check_size(self.all_layers, self.image_size, image_size)
    geometry = geometry_lib.of(
        self.all_layers, self.kernel, self._image_kernel, image_size, self.compute_dtype,
        self.winograd)
    nets = tuple(
        recurrence.Net(here, weights_lib.prepare(here, layer, w))
        for here, layer, w in zip(geometry, self.all_layers, self.raw, strict=True))
    encoder_image = weights_lib.prepared(
        geometry[0], self.all_layers[0], weights_lib.STRIDED, self.encoder_image)
    return Prepared(nets, encoder_image, self.initial_canvas)

  def observe(self, prepared: Prepared, x: jax.Array) -> recurrence.Image:
    """x [B, H, W, C] in [0, 1] in the form in which the encoder reads it."""
    here, w = prepared.nets[0]
    x = layers.space_to_depth(x, here.block)
    gates = here.grid.convolve([(here.read(x), prepared.encoder_image)])
    return recurrence.Image(here.split_cells(x), layers.add_bias(gates, w.encoder_bias))

  def start(self, prepared: Prepared, batch: int) -> recurrence.State:
    """The state before the first iteration, of B = `batch` images: h = c = 0, and r_0."""
    states = []
    for i, (net, layer) in enumerate(zip(prepared.nets, self.all_layers, strict=True)):
      here = net.here
      zeros = here.grid.zeros(batch, layer.features)
      h = here.grid.transform(zeros)
      above = h if i + 1 < len(prepared.nets) else None
      states.append(recurrence.LayerState(h, zeros, h, zeros, above))
    (a, b), size = prepared.nets[0].here.block, prepared.nets[0].here.size
    r = prepared.initial_canvas.shape[-1]
    bias = prepared.initial_canvas.reshape(-1, r)  # [1, R]; fully connected: [H W, R]
    return recurrence.State(tuple(states), jnp.broadcast_to(bias, (batch, *size, a * b, r)))

  def posteriors(self, prepared: Prepared, t: ArrayLike, image: recurrence.Image,
                 state: recurrence.State) -> tuple[recurrence.State, list]:
    """(`State` after the encoders of iteration t, [q_t of each layer]): (1) to (3)."""
    nets = prepared.nets
    return recurrence.infer(
        nets, self.pixels, lambda i, maps: self._posterior_of(nets[i].w, t, maps), image, state)

  def prior(self, prepared: Prepared, t: ArrayLike, layer: int, coding_pass: int,
            state: recurrence.State, zs: Sequence[Any]) -> DiagonalGaussian:
    """p_t (4) of a layer, given z_t of the layers above it."""
    del t, coding_pass
    return recurrence.prior_of_layer(prepared.nets, state, zs, layer)

  def update(self, prepared: Prepared, t: ArrayLike, state: recurrence.State,
             zs: Sequence[Any]) -> recurrence.State:
    """The state after iteration t, given z_t of each layer: (6) and (7)."""
    del t
    return recurrence.generate(prepared.nets, state, lambda i, p: zs[i])[0]

  def canvas(self, prepared: Prepared, state: recurrence.State) -> jax.Array:
    """[B, H, W, R] the canvas r of a state."""
    return prepared.nets[0].here.to_image(state.canvas)

  def quantisation_steps(self, prepared: Prepared, layer: int) -> jax.Array:
    """[T, Z] quantisation steps of a layer, with posterior 'rounded' or 'uniform'."""
    return QuantisedPosterior(0.0, self._log_sigma(prepared.nets[layer].w), False).width

  def positions(self, prepared: Prepared, t: ArrayLike, layer: int) -> None:
    """None: one coding pass codes all latents of a layer."""

  def distortion_weights(self, prepared: Prepared, layer: int) -> None:
    """None: quantisation is to the nearest bin, without RDOQ."""

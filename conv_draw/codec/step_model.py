"""What the codec needs of a model of latents: one iteration, in parts."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
from jax.typing import ArrayLike

from conv_draw.model.latents import DiagonalGaussian


class StepModel(Protocol):
  """`model.conv_draw.ConvDraw` and `progressive.model.Progressive` are such models.

  `prepare` reads the parameters (`apply(params, image_size, method='prepare')`); the functions
  after it are pure functions of what it returns, of arrays and of static ints, and so can be
  compiled one by one. Encoder and decoder call, for t = 0 .. T-1,

    encoder: q_t of all layers                       `posteriors`
    both:    p_t of each layer, from the top down,   `prior`
             and of each coding pass
    both:    the state after iteration t             `update`

  where p_t does not depend on z_t of its own coding pass, and neither `prior` nor `update` on the
  image.

  Attributes:
    iterations: T; channels: C; pixels: p(x | canvas); posterior: as of `ConvDraw`.
    all_layers: `layers.Layer`s, the one nearest the pixels first.
    coding_passes: of an iteration in the first layer: 1, or 2 with a checkerboard.
    embedded: whether training optimises the reconstruction after every iteration. The decoder then
      leaves out missing groups instead of generating them, and the encoder can offset the
      quantisation steps.
  """

  iterations: int
  channels: int
  pixels: Any
  posterior: str
  all_layers: tuple
  coding_passes: int
  embedded: bool

  def prepare(self, image_size: Sequence[int]) -> Any:
    """The parameters for images of (H, W), transformed once: a pytree of arrays."""

  def observe(self, prepared: Any, x: jax.Array) -> Any:
    """What `posteriors` reads of images x [B, H, W, C] in [0, 1]."""

  def start(self, prepared: Any, batch: int) -> Any:
    """The state before iteration 0."""

  def posteriors(self, prepared: Any, t: ArrayLike, image: Any, state: Any) -> tuple[Any, list]:
    """(the state with its encoders moved on, [q_t of each layer])."""

  def prior(self, prepared: Any, t: ArrayLike, layer: int, coding_pass: int, state: Any,
            zs: Sequence[Any]) -> DiagonalGaussian:
    """p_t [B, h, w, Z] of a layer.

    Args:
      layer, coding_pass: static.
      zs: z_t of each layer; those of the layers above are read, and of the coding passes before.
    """

  def update(self, prepared: Any, t: ArrayLike, state: Any, zs: Sequence[Any]) -> Any:
    """The state after iteration t, given z_t of each layer."""

  def canvas(self, prepared: Any, state: Any) -> jax.Array:
    """[B, H, W, R] the canvas of a state: the parameters of p(x | z), or a picture."""

  def quantisation_steps(self, prepared: Any, layer: int) -> jax.Array:
    """[T, Z] quantisation steps of a layer's latents, of models that have them."""

  def positions(self, prepared: Any, t: ArrayLike, layer: int) -> jax.Array | None:
    """Bool [coding passes, h, w, Z]: the latents that are coded; None: all, in one pass."""

  def distortion_weights(self, prepared: Any, layer: int) -> jax.Array | None:
    """[T, Z] nats of an error of a bin, for RDOQ; None: latents go to the nearest bin."""

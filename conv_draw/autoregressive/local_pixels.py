"""A local autoregressive model: p(x | z) = prod_i p(x_i | x_N(i), r_T around i).

The paper's section 5 proposes a canvas that conditions an autoregressive model of pixels. This
model is local, which leaves global structure to the latents. N(i) is the causal neighbourhood of
context radius h (`horizon`) in raster order: h rows above with h columns on either side, and h
pixels to the left, M = (2 h + 1) h + h pixels. A small network reads them and, if there is a
canvas, r_T at i and around it on all sides. The network's output is the canvas of a pixel
distribution.

With `LogisticMixturePixels`, inputs and outputs are relative to the neighbours. Inputs are
differences to a reference (the mean of west and north, by channel), in units of their own mean
size, the spread. Outputs are means, scales and slopes around that reference, in that unit. The same
weights then suit patches of any brightness and contrast.

Pixels with the same x + (h + 1) y do not depend on each other. Sampling and decoding proceed along
these wavefronts, all pixels of a wavefront at once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from conv_draw.autoregressive import products
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.model.image_model import Float32Parameters

OUTSIDE = -1.0  # value of pixels outside the image; grey values are at least 0
CANVAS_HORIZON = 2  # context radius on the canvas: 5 x 5 pixels
WAVES = 4  # inputs by position: cos(pi k u) of u = y/H and x/W for k = 1..WAVES
PIXELS_AT_ONCE = 4096  # scored together, so that their neighbourhoods fit in a cache


class View(NamedTuple):
  """The canvas r_T as the network reads it."""

  picture: jax.Array  # [B, H, W, C] its mean, in [0, 1], read around a pixel
  canvas: jax.Array  # [B, H, W, R] the canvas, read at the pixel


def neighbours(horizon: int) -> list[tuple[int, int]]:
  """[(dy, dx)] of the M neighbours in raster order."""
  h = horizon
  above = [(dy, dx) for dy in range(-h, 0) for dx in range(-h, h + 1)]
  return above + [(0, dx) for dx in range(-h, 0)]


def valid_and_edges(near: jax.Array, horizon: int) -> tuple[jax.Array, jax.Array]:
  """(valid mask of neighbours [N, M, C]: [N, M]; its entries above, left and right: [N, 3 h])."""
  valid, offsets = (near[..., 0] != OUTSIDE).astype(jnp.float32), neighbours(horizon)
  edges = [offsets.index(p) for k in range(1, horizon + 1) for p in ((-k, 0), (0, -k), (-1, k))]
  return valid, jnp.stack([valid[:, i] for i in edges], -1)


def around(horizon: int) -> list[tuple[int, int]]:
  """[(dy, dx)] of the square around a pixel, including the pixel."""
  side = range(-horizon, horizon + 1)
  return [(dy, dx) for dy in side for dx in side]


def wavefronts(image_size: Sequence[int], horizon: int) -> tuple[int, int]:
  """(number of wavefronts of an image of (H, W), largest number of pixels on a wavefront)."""
  height, width = image_size
  return width + (horizon + 1) * (height - 1), min(height, -(-width // (horizon + 1)))


def on_wavefront(number: ArrayLike, image_size: Sequence[ArrayLike], horizon: int,
                 most: int | None = None) -> tuple:
  """The pixels with x + (h + 1) y = `number`.

  Args:
    most: n, which an `image_size` that is traced needs; at least that of `wavefronts`.
  Returns:
    int (rows, columns) [n], with n the largest number of pixels on a wavefront. Where this one has
    fewer, the column is -1.
  """
  height, width = image_size
  step = horizon + 1
  if most is None:
    most = wavefronts(image_size, horizon)[1]
  first = jnp.maximum(-((width - 1 - number) // step), 0)  # the first row with x < W
  rows = first + jnp.arange(most)
  columns = number - step * rows
  inside = (columns >= 0) & (rows < height)
  return jnp.minimum(rows, height - 1), jnp.where(inside, columns, -1)


def along(images: jax.Array, number: ArrayLike, horizon: int) -> tuple:
  """`on_wavefront` for all images [B, H, W, C]: int (rows, columns) [B, n]."""
  return tuple(jnp.broadcast_to(a, (len(images), len(a)))
               for a in on_wavefront(number, images.shape[1:3], horizon))


def put(images: jax.Array, rows: jax.Array, columns: jax.Array, values: jax.Array,
        margin: int = 0) -> jax.Array:
  """`images` with values at some pixels.

  Args:
    images: [B, H, W, C].
    rows, columns: int [B, n]; pixels of column -1 are dropped.
    values: [B, n, C] or [B n, C].
    margin: of images that are `surrounded`.
  """
  # Negative indices count from the end; an index beyond the image is dropped.
  columns = jnp.where(columns < 0, images.shape[2], columns + margin)
  values = values.reshape(*rows.shape, -1).astype(images.dtype)
  image = jnp.arange(len(images))[:, None]
  return images.at[image, rows + margin, columns].set(values, mode='drop')


def surrounded(values: jax.Array, margin: int) -> jax.Array:
  """[B, H, W, K], padded with `margin` times OUTSIDE on every side."""
  sides = (margin, margin)
  return jnp.pad(values, ((0, 0), sides, sides, (0, 0)), constant_values=OUTSIDE)


def look(values: jax.Array, offsets: Sequence[tuple[int, int]], rows: jax.Array,
         columns: jax.Array, margin: int = 0) -> jax.Array:
  """Values around some pixels, [B, N, M, K], with OUTSIDE beyond the image.

  Args:
    values: [B, H, W, K].
    offsets: [(dy, dx)] of M positions relative to a pixel.
    rows, columns: int [B, N], of N pixels of each image.
    margin: of values that are `surrounded` already, at least by the largest offset.
  """
  if not margin:
    margin = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    values = surrounded(values, margin)
  batch, height, width, k = values.shape
  places = jnp.array([(dy + margin) * width + dx + margin for dy, dx in offsets])
  first = jnp.arange(batch)[:, None] * (height * width) + rows * width + columns
  return jnp.take(values.reshape(-1, k), first[..., None] + places[None, None], axis=0, mode='clip')


def position_features(rows: jax.Array, columns: jax.Array, image_size: Sequence[int]) -> jax.Array:
  """Features of the positions (rows, columns) [B, N] in images of (H, W): [B, N, 2 WAVES]."""
  waves = (jnp.pi * jnp.arange(1, WAVES + 1).astype(jnp.float32))[None, None]
  y, x = ((a.astype(jnp.float32) + 0.5)[..., None] * waves / n
          for a, n in zip((rows, columns), image_size, strict=True))
  return jnp.cos(jnp.concatenate([y, x], -1))


def by_parts(images: jax.Array, score_at: Callable) -> jax.Array:
  """A function's values at all pixels of images [B, H, W, C], computed in parts: [B, H, W, K].

  Args:
    images: [B, H, W, C].
    score_at: int (rows, columns) [B, N] -> [B, N, K].
  """
  b, height, width, _ = images.shape
  each = max(1, min(height, PIXELS_AT_ONCE // (b * width)))  # rows in a part
  y = jnp.arange(-(-height // each) * each).reshape(-1, each)

  def part(rows):
    rows, columns = jnp.meshgrid(rows, jnp.arange(width), indexing='ij')
    everywhere = lambda a: jnp.broadcast_to(a.reshape(-1), (b, a.size))
    return score_at(everywhere(jnp.minimum(rows, height - 1)), everywhere(columns))

  scores = jax.lax.map(part, y)  # [parts, B, each * W, K]
  return scores.swapaxes(0, 1).reshape(b, -1, width, scores.shape[-1])[:, :height]


def layers(param: Callable, inputs: int, features: int, residual_layers: int,
           outputs: int) -> tuple:
  """The parameters of a network: first layer, [residual layers], last layer.

  Each is (kernel [I, O], bias [O]). `param` is that of a Flax module.
  """
  def layer(name, inputs, outputs, gain=1.0):
    init = nn.initializers.variance_scaling(gain, 'fan_in', 'truncated_normal')
    return (param(f'{name}_kernel', init, (inputs, outputs)),
            param(f'{name}_bias', nn.initializers.zeros, (outputs,)))

  return (  # created in this order, which determines their random initial values
      layer('first', inputs, features),
      [layer(f'residual_{i}', features, features) for i in range(residual_layers)],
      layer('last', features, outputs, gain=0.1))


class LocalPixels(Float32Parameters, nn.Module):
  """p(x | z), pixel by pixel: `apply` it with method `cost`, `cost_at`, `describe_at` or `draw`.

  Images have any size and values 0..grey_levels-1; shapes are those of `recurrence`.

  Attributes:
    pixels: the distribution of a pixel, `LogisticMixturePixels` or `BernoulliPixels`.
    channels: C.
    horizon: h, the context radius.
    features: hidden units.
    residual_layers: number of layers between the first and the last, each of which adds to the
      hidden units.
    compute_dtype: float32, or bfloat16 for the factors of the layers' products.
    canvas_channels: R of the canvas that the network reads; 0 without a canvas.
    position: whether the network reads a pixel's position, for images framed alike.
  """

  pixels: Any
  channels: int
  horizon: int = 3
  features: int = 160
  residual_layers: int = 2
  compute_dtype: jnp.dtype = jnp.float32
  canvas_channels: int = 0
  position: bool = False

  def setup(self):
    c, h = self.channels, self.horizon
    inputs = len(neighbours(h)) * c + 3 * h + (c + 1) * self.relative
    if self.position:
      inputs += 2 * WAVES
    if self.canvas_channels:
      inputs += len(around(CANVAS_HORIZON)) * c + self.canvas_channels

    self.first, self.residual, self.last = layers(
        self.param, inputs, self.features, self.residual_layers, self.pixels.canvas_channels(c))

  @property
  def uniforms(self) -> int:
    """U, the number of uniform random numbers that `draw` takes per pixel."""
    return self.pixels.uniforms(self.channels)

  @property
  def relative(self) -> bool:
    """Whether inputs and outputs are relative to the neighbours."""
    return isinstance(self.pixels, LogisticMixturePixels)

  def cost(self, images: jax.Array, view: View | None = None) -> jax.Array:
    """-log p(x_i | x_N(i), r_T) in nats, of all pixels, by channel: [B, H, W, C].

    Args:
      images: [B, H, W, C].
      view: `View` of the canvas, if there is one.
    """
    return by_parts(images, lambda rows, columns: self.cost_at(images, rows, columns, view))

  def cost_at(self, images: jax.Array, rows: jax.Array, columns: jax.Array,
              view: View | None = None) -> jax.Array:
    """`cost` of N pixels of each image, at int (rows, columns) [B, N]: [B, N, C].

    Of uniformly drawn pixels, H W / N times the sum is an unbiased estimate of the image's cost.
    """
    numbers = self._describe(images, rows, columns, view)
    x = look(jnp.asarray(images, jnp.float32), [(0, 0)], rows, columns)[..., 0, :]
    flat = x.reshape(-1, self.channels) / (self.pixels.grey_levels - 1)
    cost = self.pixels.cost(
        products.column_by_column(flat), products.column_by_column(numbers.T))
    return products.column_by_column(cost).reshape(x.shape)

  def describe_at(self, images: jax.Array, rows: jax.Array, columns: jax.Array,
                  view: View | None = None) -> jax.Array:
    """The distributions of N pixels of each image, as parameters [B, N, R] of `pixels`.

    They do not depend on the values of `images` at a pixel or after it in raster order.
    """
    return self._describe(images, rows, columns, view).T.reshape(*rows.shape, -1)

  def draw(self, uniforms: jax.Array, images: jax.Array, first: ArrayLike, last: ArrayLike,
           view: View | None = None) -> jax.Array:
    """`images` with the pixels of wavefronts first..last-1 drawn, given the earlier wavefronts.

    Args:
      uniforms: [B, H, W, U] in (0, 1), for `pixels.draw`.
      images: [B, H, W, C] float32, drawn up to wavefront `first`.
      first, last: ints, which may be traced.
      view: `View` of the canvas, if there is one.
    """

    def one(number, images):
      rows, columns = along(images, number, self.horizon)
      numbers = self.describe_at(images, rows, columns, view)
      image = jnp.arange(len(images))[:, None]
      return put(images, rows, columns, self.pixels.draw(numbers, uniforms[image, rows, columns]))

    return jax.lax.fori_loop(first, last, one, images)

  def _describe(self, images, rows, columns, view):
    """The transpose of `describe_at`, [R, B N]: the last axis, of pixels, is long."""
    near = look(jnp.asarray(images, jnp.float32), neighbours(self.horizon), rows, columns)
    near = near.reshape(-1, *near.shape[2:])  # [B N, M, C]
    if view is not None:
      picture = look(view.picture, around(CANVAS_HORIZON), rows, columns)
      canvas = look(view.canvas, [(0, 0)], rows, columns)
      view = View(picture.reshape(len(near), -1, self.channels), canvas.reshape(len(near), -1))
    seen = self._see(near, view)
    if self.position:
      at = position_features(rows, columns, images.shape[1:3]).reshape(len(near), -1)
      seen = seen._replace(inputs=jnp.concatenate([seen.inputs, at], -1))
    rows = products.row_by_row(self._network(seen.inputs).T)
    return self._relate(rows, seen) if self.relative else rows

  def _network(self, x):
    """[N, I] inputs -> [N, R]."""
    hidden = self._linear(x, self.first)
    for layer in self.residual:
      hidden += self._linear(nn.relu(hidden), layer)
    return self._linear(nn.relu(hidden), self.last)

  def _linear(self, x, layer):
    kernel, bias = layer
    multiply = products.bfloat16 if self.compute_dtype == jnp.bfloat16 else jnp.matmul
    return multiply(x, kernel) + bias[None]

  def _see(self, near, view):
    """`_Seen` of N pixels.

    Args:
      near: neighbours [N, M, C].
      view: None, or `View` of [N, 25, C] and [N, R].
    """
    valid, edges = valid_and_edges(near, self.horizon)
    scaled = near / (self.pixels.grey_levels - 1)
    n = len(near)
    if not self.relative:
      parts = [((2 * scaled - 1) * valid[..., None]).reshape(n, -1), edges]
      if view is not None:
        picture = jnp.where(view.picture != OUTSIDE, 2 * view.picture - 1, 0)
        parts += [picture.reshape(n, -1), view.canvas]
      return _Seen(jnp.concatenate(parts, -1), None, None)

    west, north = map(neighbours(self.horizon).index, ((0, -1), (-1, 0)))
    count = valid[:, west] + valid[:, north]
    total = sum(valid[:, i, None] * scaled[:, i] for i in (west, north))
    none = (count == 0)[:, None].astype(jnp.float32)
    reference = (total + 0.5 * none) / jnp.maximum(count, 1)[:, None]
    difference = (scaled - reference[:, None]) * valid[..., None]
    # One grey level is added, so that the spread of flat patches is not 0.
    spread = (
        abs(difference).sum((1, 2)) / (self.channels * jnp.maximum(valid.sum(1), 1))
        + 1 / (self.pixels.grey_levels - 1))[:, None]
    parts = [(difference / spread[..., None]).reshape(n, -1), edges, 2 * reference - 1,
             jnp.log(spread) + 3]
    if view is not None:
      difference = jnp.where(view.picture != OUTSIDE, view.picture - reference[:, None], 0)
      parts += [(difference / spread[..., None]).reshape(n, -1), view.canvas]
    return _Seen(jnp.concatenate(parts, -1), reference, spread)

  def _relate(self, rows, seen):
    """The parameters [R, N] of a mixture, given the network's outputs [R, N] in units of spread."""
    k, c = self.pixels.mixtures, self.channels
    reference, spread = seen.reference.T, seen.spread.T
    rows = jnp.split(rows, len(rows) // k)  # of [K, N], in the order of the canvas
    # Initial means differ, because equal components would have equal gradients.
    apart = (2 * (jnp.arange(k).astype(jnp.float32) + 0.5) / k - 1)[:, None]
    means = [
        reference[i][None] + spread * (apart + row) for i, row in enumerate(rows[1 : c + 1])]
    log_scales = [jnp.log(spread) + row - 1 for row in rows[c + 1 : 2 * c + 1]]
    slopes = [row + 1 for row in rows[2 * c + 1 :]]  # initially large: channels are correlated
    # `LogisticMixture` applies slopes to a channel's distance from mid grey. Here they apply to the
    # distance from the channel's mean.
    linked, first = [], 0
    for i, mean in enumerate(means):
      for earlier, slope in zip(means[:i], slopes[first : first + i], strict=True):
        mean = mean - jnp.tanh(slope) * (earlier - 0.5)
      linked.append(mean)
      first += i
    return jnp.concatenate([rows[0], *linked, *log_scales, *slopes])


class _Seen(NamedTuple):
  """The inputs of N pixels; reference and spread in [0, 1], None where outputs are absolute."""

  inputs: jax.Array  # [N, I]
  reference: jax.Array | None  # [N, C]
  spread: jax.Array | None  # [N, 1]

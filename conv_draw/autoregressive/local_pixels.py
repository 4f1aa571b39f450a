"""A local autoregressive model: p(x | z) = prod_i p(x_i | x_N(i), r_T around i).

The paper's section 5 proposes a canvas that feeds an autoregressive model of pixels. This one is
local, so that global structure is left to the latents. N(i) is the causal neighbourhood of radius h
(`horizon`) in raster order: h rows above with h columns to either side, and h pixels to the left,
M = (2 h + 1) h + h of them. A small network reads those and, if there is a canvas, r_T at i and
around it, which the decoder knows on all sides. The network's output is the canvas of a pixel
distribution.

With `LogisticMixturePixels` everything is relative to the neighbours: the inputs are differences
to a reference (the mean of west and north, by channel) in units of their own mean size, the spread,
and the outputs are means, scales and slopes in that unit around that reference. So a patch that
is brighter or of more contrast needs no other weights.

Pixels of one number x + (h + 1) y do not depend on each other: images are drawn along these
wavefronts, all pixels of one at once.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from conv_draw.autoregressive import products
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.model.weights import Float32Parameters

OUTSIDE = -1.0  # read where there is no pixel; grey values are 0 and more

# How far around a pixel its network sees the canvas: 5 x 5 pixels.
CANVAS_HORIZON = 2

# Of the place in the image, as an input: cos(pi k u) of u = y/H and x/W for k = 1..WAVES.
WAVES = 4

# Whole images are scored in parts of about so many pixels: their windows stay in a cache.
PART = 4096


class View(NamedTuple):
  """What a network sees of the canvas r_T."""

  picture: jax.Array  # [B, H, W, C] its mean, in [0, 1]: around a pixel
  canvas: jax.Array  # [B, H, W, R] itself: at the pixel


def neighbours(horizon):
  """(dy, dx) of the M neighbours in raster order; the last is west, row -1 column 0 north."""
  h = horizon
  above = [(dy, dx) for dy in range(-h, 0) for dx in range(-h, h + 1)]
  return above + [(0, dx) for dx in range(-h, 0)]


def around(horizon):
  """(dy, dx) of the square around a pixel, itself included."""
  side = range(-horizon, horizon + 1)
  return [(dy, dx) for dy in side for dx in side]


def wavefronts(image_size, horizon):
  """How many wavefronts an image of (H, W) has, and the most pixels on one."""
  height, width = image_size
  return width + (horizon + 1) * (height - 1), min(height, -(-width // (horizon + 1)))


def on_wavefront(number, image_size, horizon):
  """The pixels whose x + (h + 1) y is `number`.

  Returns:
    int (rows, columns) [n], with n the most that a wavefront has; where it has fewer, columns
    outside the image.
  """
  height, width = image_size
  step, most = horizon + 1, wavefronts(image_size, horizon)[1]
  first = jnp.maximum(-((width - 1 - number) // step), 0)  # the first row with x < W
  rows = first + jnp.arange(most)
  columns = number - step * rows
  inside = (columns >= 0) & (rows < height)
  return jnp.minimum(rows, height - 1), jnp.where(inside, columns, -1)


def along(images, number, horizon):
  """The same for all images [B, H, W, C]: int (rows, columns) [B, n]."""
  return tuple(jnp.broadcast_to(a, (len(images), len(a)))
               for a in on_wavefront(number, images.shape[1:3], horizon))


def put(images, rows, columns, values, margin=0):
  """`images` with values [B, n, C] or [B n, C] at (rows, columns), those outside left out.

  Args:
    margin: of images that are `surrounded`.
  """
  # Negative indices would count from the end: what is not in the image goes beyond it.
  columns = jnp.where(columns < 0, images.shape[2], columns + margin)
  values = values.reshape(*rows.shape, -1).astype(images.dtype)
  image = jnp.arange(len(images))[:, None]
  return images.at[image, rows + margin, columns].set(values, mode='drop')


def surrounded(values, margin):
  """[B, H, W, K] with `margin` times OUTSIDE on every side."""
  sides = (margin, margin)
  return jnp.pad(values, ((0, 0), sides, sides, (0, 0)), constant_values=OUTSIDE)


def look(values, offsets, rows, columns, margin=0):
  """Values around some pixels.

  Args:
    values: [B, H, W, K].
    offsets: (dy, dx) of M places relative to a pixel.
    rows, columns: int [B, N], of N pixels of each image.
    margin: of values that are `surrounded` already, as far as offsets go at least.
  Returns:
    [B, N, M, K], OUTSIDE where there is no pixel.
  """
  if not margin:
    margin = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    values = surrounded(values, margin)
  batch, height, width, k = values.shape
  places = jnp.array([(dy + margin) * width + dx + margin for dy, dx in offsets])
  first = jnp.arange(batch)[:, None] * (height * width) + rows * width + columns
  return jnp.take(values.reshape(-1, k), first[..., None] + places[None, None], axis=0, mode='clip')


def place(rows, columns, image_size):
  """Where pixels (rows, columns) [B, N] of images (H, W) are: [B, N, 2 WAVES] in [-1, 1]."""
  waves = (jnp.pi * jnp.arange(1, WAVES + 1).astype(jnp.float32))[None, None]
  y, x = ((a.astype(jnp.float32) + 0.5)[..., None] * waves / n
          for a, n in zip((rows, columns), image_size, strict=True))
  return jnp.cos(jnp.concatenate([y, x], -1))


def by_parts(images, score_at):
  """What a function says of all pixels of images [B, H, W, C], in parts.

  Args:
    score_at: of int rows and columns [B, N]: [B, N, K].
  Returns:
    [B, H, W, K].
  """
  b, height, width, _ = images.shape
  each = max(1, min(height, PART // (b * width)))  # rows in a part
  y = jnp.arange(-(-height // each) * each).reshape(-1, each)

  def part(rows):
    rows, columns = jnp.meshgrid(rows, jnp.arange(width), indexing='ij')
    everywhere = lambda a: jnp.broadcast_to(a.reshape(-1), (b, a.size))
    return score_at(everywhere(jnp.minimum(rows, height - 1)), everywhere(columns))

  scores = jax.lax.map(part, y)  # [parts, B, each * W, K]
  return scores.swapaxes(0, 1).reshape(b, -1, width, scores.shape[-1])[:, :height]


def layers(param, inputs, features, residual_layers, outputs):
  """The parameters of a network: first, [residual], last, each (kernel [I, O], bias [O]).

  Args:
    param: a module's.
  """
  def layer(name, inputs, outputs, gain=1.0):
    init = nn.initializers.variance_scaling(gain, 'fan_in', 'truncated_normal')
    return (param(f'{name}_kernel', init, (inputs, outputs)),
            param(f'{name}_bias', nn.initializers.zeros, (outputs,)))

  return (  # made in this order, which decides what they begin as
      layer('first', inputs, features),
      [layer(f'residual_{i}', features, features) for i in range(residual_layers)],
      layer('last', features, outputs, gain=0.1))


class LocalPixels(Float32Parameters, nn.Module):
  """p(x | z) by pixel; `apply` it with method `cost`, `cost_at`, `describe_at` or `draw`.

  Images are values 0..grey_levels-1 here, of any size; shapes as in `recurrence`.

  Attributes:
    pixels: of each pixel: `LogisticMixturePixels` or `BernoulliPixels`.
    channels: C.
    horizon: h.
    features: hidden units.
    residual_layers: between the first layer and the last, each adding to the hidden units.
    compute_dtype: float32, or bfloat16 for the factors of the layers' products.
    canvas_channels: R of the canvas that the network reads; 0 if there is none.
    position: whether the network reads a pixel's place: for images that are all alike in frame.
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
  def uniforms(self):
    """U, how many uniform numbers `draw` takes for a pixel."""
    return self.pixels.uniforms(self.channels)

  @property
  def relative(self):
    """Whether inputs and means are relative to the neighbours."""
    return isinstance(self.pixels, LogisticMixturePixels)

  def view(self, picture, canvas):
    """What the network reads of a canvas [B, H, W, R] of mean [B, H, W, C] in [0, 1]: `View`."""
    return View(picture, canvas)

  def cost(self, images, view=None):
    """-log p(x_i | x_N(i), r_T) of all pixels, in nats, by channel: [B, H, W, C] -> the same.

    Args:
      images: [B, H, W, C].
      view: `View` of the canvas, if there is one.
    """
    return by_parts(images, lambda rows, columns: self.cost_at(images, rows, columns, view))

  def cost_at(self, images, rows, columns, view=None):
    """The same of N pixels of each image: rows, columns int [B, N] -> [B, N, C].

    If they are uniform, H W / N times the sum estimates the cost of the image without bias.
    """
    numbers = self._describe(images, rows, columns, view)
    x = look(jnp.asarray(images, jnp.float32), [(0, 0)], rows, columns)[..., 0, :]
    flat = x.reshape(-1, self.channels) / (self.pixels.grey_levels - 1)
    cost = self.pixels.cost(
        products.column_by_column(flat), products.column_by_column(numbers.T))
    return products.column_by_column(cost).reshape(x.shape)

  def describe_at(self, images, rows, columns, view=None):
    """The distributions of N pixels of each image, [B, N, R] as a canvas of `pixels` has them.

    Of `images`, what lies at a pixel or after it in raster order changes nothing.
    """
    return self._describe(images, rows, columns, view).T.reshape(*rows.shape, -1)

  def draw(self, uniforms, images, first, last, view=None):
    """Draws the pixels of the wavefronts first..last-1, given those of the wavefronts before.

    Args:
      uniforms: [B, H, W, U] in (0, 1), as `pixels.draw` takes them.
      images: [B, H, W, C] float32; the wavefronts before `first` are as drawn.
      first, last: ints, which need not be known when this is compiled.
      view: `View` of the canvas, if there is one.
    Returns:
      `images` with the pixels of these wavefronts.
    """

    def one(number, images):
      rows, columns = along(images, number, self.horizon)
      numbers = self.describe_at(images, rows, columns, view)
      image = jnp.arange(len(images))[:, None]
      return put(images, rows, columns, self.pixels.draw(numbers, uniforms[image, rows, columns]))

    return jax.lax.fori_loop(first, last, one, images)

  def _describe(self, images, rows, columns, view):
    """[R, B N] of N pixels of each image.

    Pixels, which are many, are the last axis of all that is done with the few numbers of a pixel.
    """
    near = look(jnp.asarray(images, jnp.float32), neighbours(self.horizon), rows, columns)
    near = near.reshape(-1, *near.shape[2:])  # [B N, M, C]
    if view is not None:
      picture = look(view.picture, around(CANVAS_HORIZON), rows, columns)
      canvas = look(view.canvas, [(0, 0)], rows, columns)
      view = View(picture.reshape(len(near), -1, self.channels), canvas.reshape(len(near), -1))
    seen = self._see(near, view)
    if self.position:
      at = place(rows, columns, images.shape[1:3]).reshape(len(near), -1)
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
    """What the network sees of N pixels.

    Args:
      near: neighbours [N, M, C].
      view: None, or `View` of [N, 25, C] and [N, R].
    Returns:
      `_Seen`.
    """
    h, places = self.horizon, neighbours(self.horizon)
    inside = (near[..., 0] != OUTSIDE).astype(jnp.float32)  # [N, M]
    # The edges above, to the left and to the right say which neighbours there are.
    at = [places.index(p) for k in range(1, h + 1) for p in ((-k, 0), (0, -k), (-1, k))]
    edges = jnp.stack([inside[:, i] for i in at], -1)
    scaled = near / (self.pixels.grey_levels - 1)
    n = len(near)
    if not self.relative:
      parts = [((2 * scaled - 1) * inside[..., None]).reshape(n, -1), edges]
      if view is not None:
        inside = view.picture != OUTSIDE
        parts += [jnp.where(inside, 2 * view.picture - 1, 0).reshape(n, -1), view.canvas]
      return _Seen(jnp.concatenate(parts, -1), None, None)

    west, north = places.index((0, -1)), places.index((-1, 0))
    count = inside[:, west] + inside[:, north]
    total = sum(inside[:, i, None] * scaled[:, i] for i in (west, north))
    none = (count == 0)[:, None].astype(jnp.float32)
    reference = (total + 0.5 * none) / jnp.maximum(count, 1)[:, None]
    difference = (scaled - reference[:, None]) * inside[..., None]
    # One grey level more, so that flat patches have a unit too.
    spread = (
        abs(difference).sum((1, 2)) / (self.channels * jnp.maximum(inside.sum(1), 1))
        + 1 / (self.pixels.grey_levels - 1))[:, None]
    parts = [(difference / spread[..., None]).reshape(n, -1), edges, 2 * reference - 1,
             jnp.log(spread) + 3]
    if view is not None:
      inside = view.picture != OUTSIDE
      difference = jnp.where(inside, view.picture - reference[:, None], 0)
      parts += [(difference / spread[..., None]).reshape(n, -1), view.canvas]
    return _Seen(jnp.concatenate(parts, -1), reference, spread)

  def _relate(self, rows, seen):
    """A mixture's numbers [R, N] from the network's outputs [R, N], in units of the spread."""
    k, c = self.pixels.mixtures, self.channels
    reference, spread = seen.reference.T, seen.spread.T
    rows = jnp.split(rows, len(rows) // k)  # of [K, N], as the canvas has them
    # What began as one would stay one.
    apart = (2 * (jnp.arange(k).astype(jnp.float32) + 0.5) / k - 1)[:, None]
    means = [
        reference[i][None] + spread * (apart + row) for i, row in enumerate(rows[1 : c + 1])]
    log_scales = [jnp.log(spread) + row - 1 for row in rows[c + 1 : 2 * c + 1]]
    slopes = [row + 1 for row in rows[2 * c + 1 :]]  # channels resemble each other
    # A slope acts on the distance of a channel to mid grey: make it that to its own mean.
    linked, first = [], 0
    for i, mean in enumerate(means):
      for earlier, slope in zip(means[:i], slopes[first : first + i], strict=True):
        mean = mean - jnp.tanh(slope) * (earlier - 0.5)
      linked.append(mean)
      first += i
    return jnp.concatenate([rows[0], *linked, *log_scales, *slopes])


class _Seen(NamedTuple):
  """N pixels' inputs, and what their outputs are relative to, as pixels in [0, 1], if anything."""

  inputs: jax.Array  # [N, I]
  reference: jax.Array | None  # [N, C]
  spread: jax.Array | None  # [N, 1]

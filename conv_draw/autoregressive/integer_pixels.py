"""The local autoregressive model as an integer network: the same bytes on every machine.

p(x) = prod_i p(x_i | x_N(i)) as in `local_pixels`, by a network of integers that are held in
float32. 8 bits go into each of its products, and weights have 8 significant bits (bfloat16 holds
both exactly); every partial sum stays below 2^24 in units of its column's smallest weight, which
makes it exact in any order, on any device.
Its outputs are integers too, which `integer_mixture` reads from tables. So an encoder and a
decoder agree by arithmetic, not by luck.

Training goes through the same numbers: first as they are (`whole=False`, where only their ranges
are those of whole numbers), then rounded, with the gradients of the identity (Bengio et al., 2013).
Hidden units and what the network sees are in units of 1/32, up to 255 of them.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.autoregressive import integer_mixture, products
from conv_draw.autoregressive import integer_tables as tables
from conv_draw.autoregressive.local_pixels import (
  CANVAS_HORIZON,
  OUTSIDE,
  View,
  along,
  around,
  by_parts,
  layers,
  look,
  neighbours,
  put,
)
from conv_draw.autoregressive.mixture_pixels import LogisticMixture, LogisticMixturePixels
from conv_draw.errors import UserError
from conv_draw.model import straight_through
from conv_draw.model.weights import Float32Parameters

UNIT = 32  # of inputs and hidden units: 1 is 1/32
MOST = 255  # of them in a product
HIDDEN_MOST = 2**12  # of hidden units before they are rectified
# Of a column of weights, in units of the smallest: with MOST before each and a bias, below 2^24.
COLUMN_MOST = 15 * 2**12
BIAS_MOST = 2**19
FINEST = 2.0**-19  # unit: a half, which rounding adds, is at most 2^18 of them
BITS = (10, 9, 8, 7)  # of a column's largest weight, in units of the smallest: the first that fits


class IntegerPixels(Float32Parameters, nn.Module):
  """p(x) by pixel; `apply` it with method `cost`, `cost_at`, `describe_at` or `draw`.

  Images are values 0..255, of any size.

  Attributes:
    channels: C, 1 or 3.
    horizon: h.
    features: hidden units.
    residual_layers: between the first layer and the last, each adding to the hidden units.
    mixtures: K.
    whole: integers. If not, floats in the same ranges: range-constrained pre-training.
    rounded: the parameters are what `rounded` returns: the outcome is the same, sooner.
    compute_dtype: of the factors of the products: bfloat16 holds them as exactly as float32.
    canvas: whether the network reads a canvas: its mean, as whole grey values, at the pixel and
      around it.
  """

  channels: int
  horizon: int = 3
  features: int = 160
  residual_layers: int = 2
  mixtures: int = 5
  whole: bool = True
  rounded: bool = False
  compute_dtype: jnp.dtype = jnp.float32
  canvas: bool = False

  def setup(self):
    c, h, k = self.channels, self.horizon, self.mixtures
    inputs = len(neighbours(h)) * c + 3 * h + c + 1
    if self.canvas:
      inputs += len(around(CANVAS_HORIZON)) * c
    outputs = k * (c + 1) * (c + 2) // 2

    most = max(inputs, self.features)
    if most * (2 ** BITS[-1] - 1) > COLUMN_MOST:  # else the fewest bits always fit
      raise UserError(
          f'sums of {most} products are not exact in float32: of local pixels in whole numbers, '
          'lower --config.local.features or --config.local.horizon')
    self.first, self.residual, self.last = layers(
        self.param, inputs, self.features, self.residual_layers, outputs)

  @property
  def pixels(self):
    """The distribution of a pixel that the numbers stand for."""
    return LogisticMixturePixels(256, self.mixtures)

  @property
  def uniforms(self):
    """U, how many uniform numbers `draw` takes for a pixel."""
    return self.channels

  def view(self, picture, canvas):
    """What the network reads of a canvas of mean [B, H, W, C] in [0, 1]: whole grey values."""
    del canvas
    return View(straight_through.nearest(255 * jnp.clip(picture, 0, 1)), None)

  def cost(self, images, view=None):
    """-log p(x_i | x_N(i), r_T) of all pixels, in nats, by channel: [B, H, W, C] -> the same.

    If `whole`, of the frequencies in the tables themselves, without gradients.

    Args:
      view: of `view`, if there is a canvas.
    """
    score = self.table_cost_at if self.whole else self.cost_at
    return by_parts(images, lambda rows, columns: score(images, rows, columns, view))

  def table_cost_at(self, images, rows, columns, view=None):
    """As `cost_at`, of the tables' frequencies."""
    b, n = rows.shape
    flat = lambda a: a.reshape(-1, self.channels).T
    values = flat(look(images.astype(jnp.int32), [(0, 0)], rows, columns)[..., 0, :])
    _, frequencies = self.intervals_at(images, rows, columns, values, view)
    cost = math.log(tables.TOTAL) - jnp.log(frequencies.astype(jnp.float32))
    return cost.T.reshape(b, n, self.channels)

  def intervals_at(self, images, rows, columns, values, view=None):
    """Where values lie in their pixels' tables.

    Args:
      values: int32 [c, B N], of the first c channels.
    Returns:
      (starts, frequencies), int32 [c, B N].
    """
    known, found = iter(values), []

    def know(channel):
      value = next(known)
      found.append(channel.interval(value))
      return value

    integer_mixture.channels(self.mixture_at(images, rows, columns, view), len(values), know)
    starts, frequencies = zip(*found, strict=True)
    return jnp.stack(starts), jnp.stack(frequencies)

  def draw(self, uniforms, images, first, last, view=None):
    """Draws the pixels of the wavefronts first..last-1; as `LocalPixels.draw`, U = C."""
    places = jnp.floor(uniforms * tables.TOTAL).astype(jnp.int32)

    def one(number, images):
      rows, columns = along(images, number, self.horizon)
      image = jnp.arange(len(images))[:, None]
      at = iter(places[image, rows, columns].reshape(-1, self.channels).T)
      values = integer_mixture.channels(
          self.mixture_at(images, rows, columns, view), self.channels,
          lambda channel: channel.find(next(at)))
      return put(images, rows, columns, jnp.stack(values, -1))

    return jax.lax.fori_loop(first, last, one, images)

  def numbers_at(self, images, rows, columns, view=None, surrounded=False):
    """The network's outputs for N pixels of each image: whole float32 [R, B N], and `Seen`."""
    flat = lambda found: found.reshape(-1, *found.shape[2:])
    near = flat(look(jnp.asarray(images, jnp.float32), neighbours(self.horizon), rows, columns,
                     self.horizon if surrounded else 0))
    seen = self._see(near, view and flat(look(
        jnp.asarray(view.picture, jnp.float32), around(CANVAS_HORIZON), rows, columns,
        CANVAS_HORIZON if surrounded else 0)))
    hidden = self._layer(seen.inputs, self.first, UNIT)
    for layer in self.residual:
      hidden = self._clip(hidden + self._layer(self._rectify(hidden), layer, UNIT), HIDDEN_MOST)
    # Pixels, which are many, are the last axis of all that is done with the few numbers of a pixel.
    numbers = self._layer(self._rectify(hidden), self.last, tables.NATURAL)
    return products.row_by_row(numbers.T), seen

  def cost_at(self, images, rows, columns, view=None):
    """-log p(x_i | x_N(i)) of N pixels of each image, nats by channel: int [B, N] -> [B, N, C].

    With gradients; of the mixture as it is meant, not of its tables.
    """
    numbers, seen = self.numbers_at(images, rows, columns, view)
    x = look(jnp.asarray(images, jnp.float32), [(0, 0)], rows, columns)[..., 0, :]
    flat = products.column_by_column(x.reshape(-1, self.channels) / 255)
    costs, _ = self.pixels.observe(self._mixture(numbers, seen), flat, 1 / tables.TOTAL)
    cost = jnp.concatenate(costs, -1)
    return products.column_by_column(cost).reshape(x.shape)

  def mixture_at(self, images, rows, columns, view=None, surrounded=False):
    """`IntegerMixture` of N pixels of each image, B N in all; for `whole` alone.

    `images` may be `local_pixels.surrounded` by the horizon, and the view by its own.
    """
    numbers, seen = self.numbers_at(images, rows, columns, view, surrounded)
    rows = self._rows(numbers)
    whole = lambda a: a.astype(jnp.int32)
    return integer_mixture.IntegerMixture(
        integer_mixture.from_logits(whole(rows[0])),
        [whole(a) for a in self._means(rows, seen)],
        [whole(a) for a in self._scales(rows, seen)],
        [whole(a) for a in self._slopes(rows)])

  def _see(self, near, picture=None):
    """`Seen` of neighbours float32 [N, M, C], and of a canvas's mean around [N, 25, C], if any."""
    h, c, places = self.horizon, self.channels, neighbours(self.horizon)
    inside = (near[..., 0] != OUTSIDE).astype(jnp.float32)  # [N, M]
    at = [places.index(p) for k in range(1, h + 1) for p in ((-k, 0), (0, -k), (-1, k))]
    edges = jnp.stack([inside[:, i] for i in at], -1)
    west, north = places.index((0, -1)), places.index((-1, 0))
    count = (inside[:, west] + inside[:, north])[:, None]
    total = sum(inside[:, i, None] * near[:, i] for i in (west, north))
    # Half the sum of both, the one there is, or mid grey.
    reference = jnp.floor(jnp.where(count == 2, total / 2, jnp.where(count == 1, total, 128)))
    difference = (near - reference[:, None]) * inside[..., None]
    entries = (c * jnp.maximum(inside.sum(1), 1)).astype(jnp.int32)
    mean = tables.SUBPIXEL * abs(difference).sum((1, 2)).astype(jnp.int32) // entries
    spread = integer_mixture.look_up(tables.spread_of(), mean)
    gain = integer_mixture.look_up(tables.gains(), spread)
    n = len(near)
    scaled = lambda a: jnp.clip(
        straight_through.nearest(a * gain[:, None, None]), -MOST, MOST).reshape(n, -1)
    parts = [scaled(difference), edges * UNIT, jnp.round((reference - 128) / 4),
             4.0 * spread[:, None].astype(jnp.float32) - 64]
    if picture is not None:
      parts.append(scaled(jnp.where(picture == OUTSIDE, 0.0, picture - reference[:, None])))
    return Seen(jnp.concatenate(parts, -1), reference, spread)

  def _layer(self, x, layer, unit):
    """[N, I] in units of 1/32 -> [N, O] in 1 / `unit`."""
    kernel, bias = layer
    kernel, bias = kernel * (unit / UNIT), bias * unit
    if self.whole and not self.rounded:
      kernel, bias = _whole_layer(kernel, bias)
    multiply = products.bfloat16 if self.compute_dtype == jnp.bfloat16 else functools.partial(
        jnp.matmul, precision='highest')
    return self._floor(multiply(x, kernel) + bias[None] + 0.5)

  def _rectify(self, hidden):
    return jnp.clip(hidden, 0, MOST)

  def _clip(self, numbers, most):
    return jnp.clip(numbers, -most, most)

  def _floor(self, numbers):
    return straight_through.floor(numbers) if self.whole else numbers

  def _rows(self, numbers):
    """Of [K, N] each: logits, means by channel, log scales by channel, slopes by pair."""
    return jnp.split(numbers, len(numbers) // self.mixtures)

  def _means(self, rows, seen):
    """By channel [K, N], in 1/16 grey values, with the earlier channels at their means."""
    k = self.mixtures
    unit = integer_mixture.look_up(tables.units(), seen.spread)
    apart = (jnp.arange(k) * 2 + 1 - k)[:, None] * (tables.NATURAL // k)
    apart = apart.astype(jnp.float32)
    return [
        (seen.reference[:, c] * tables.SUBPIXEL)[None]
        + self._floor((self._clip(row + apart, 2**10)) * unit[None] / tables.NATURAL)
        for c, row in enumerate(rows[1 : self.channels + 1])]

  def _scales(self, rows, seen):
    """By channel [K, N]: places in `tables.widths`."""
    first = seen.spread * tables.SPREAD_STEP + tables.SCALE_OF_1 - tables.NATURAL
    return [jnp.clip(row + first.astype(jnp.float32)[None], 0, tables.SCALES - 1)
            for row in rows[self.channels + 1 : 2 * self.channels + 1]]

  def _slopes(self, rows):
    """By pair of channels [K, N], in 1 / NATURAL."""
    return [self._clip(row + tables.NATURAL, 2 * tables.NATURAL)
            for row in rows[2 * self.channels + 1 :]]

  def _mixture(self, numbers, seen):
    """`LogisticMixture` of [N, K] each."""
    rows = self._rows(numbers)
    k = tables.NATURAL
    across = lambda rows: [row.T for row in rows]
    means = [mean / (255 * tables.SUBPIXEL) for mean in self._means(rows, seen)]
    slopes = [slope / k for slope in self._slopes(rows)]
    linked, first = [], 0
    for i, mean in enumerate(means):
      shift = sum(slope * (earlier - 0.5) for earlier, slope in zip(
          means[:i], slopes[first : first + i], strict=True))
      linked.append(mean - shift)
      first += i
    scales = [(scale - tables.SCALE_OF_1) / k - jnp.log(255.0)
              for scale in self._scales(rows, seen)]
    return LogisticMixture(
        jax.nn.log_softmax(rows[0].T / k), across(linked), across(scales), across(slopes))


class Seen(NamedTuple):
  """N pixels' inputs, and what their outputs are relative to."""

  inputs: jax.Array  # [N, I] whole
  reference: jax.Array  # [N, C] whole grey values
  spread: jax.Array  # int32 [N]: places in `tables.units`


def rounded(params):
  """An `IntegerPixels`' parameters as it uses them; rounding them again would change nothing."""
  layers = dict(params['params'])
  for name in {key.rpartition('_')[0] for key in layers}:
    unit = tables.NATURAL if name == 'last' else UNIT
    kernel, bias = layers[f'{name}_kernel'], layers[f'{name}_bias']
    kernel, bias = _whole_layer(kernel * (unit / UNIT), bias * unit)
    layers |= {f'{name}_kernel': kernel * (UNIT / unit), f'{name}_bias': bias / unit}
  return {'params': layers}


def check_exact(params):
  """Asserts of `rounded` parameters that float32 holds every partial sum exactly, in any order.

  A column's weights and bias, and the half that rounding adds, are whole numbers of some power of
  two, of which no sum of them with inputs of MOST reaches 2^24; and bfloat16 holds each weight.
  """
  layers = {name: np.asarray(value, np.float64) for name, value in params['params'].items()}
  for name in {key.rpartition('_')[0] for key in layers}:
    unit = tables.NATURAL if name == 'last' else UNIT
    kernel, bias = layers[f'{name}_kernel'] * (unit / UNIT), layers[f'{name}_bias'] * unit
    significant = np.asarray(jnp.asarray(kernel, jnp.bfloat16), np.float64)
    assert (kernel == significant).all(), f'{name}: weights have more than 8 significant bits'
    terms = np.concatenate([kernel, bias[None], np.full((1, len(bias)), 0.5)]) / FINEST
    assert (terms == np.rint(terms)).all(), f'{name}: numbers finer than 2^-19'
    numbers = terms.astype(np.int64)
    unit = np.where(numbers, numbers & -numbers, 2**62).min(0)  # what divides the whole column
    sums = abs(numbers[:-2]).sum(0) * MOST + abs(numbers[-2:]).sum(0)
    assert (sums < 2**24 * unit).all(), f'{name}: partial sums may need more than 24 bits'


def _whole_layer(kernel, bias):
  kernel, smallest = whole_kernel(kernel)
  whole = jnp.clip(straight_through.nearest(bias / smallest), -BIAS_MOST, BIAS_MOST)
  return kernel, whole * smallest


def whole_kernel(kernel):
  """Weights as whole numbers of 8 significant bits times a power of two, by column.

  What it returns it would return again.

  Returns:
    [I, O], and those powers of two [O].
  """
  _, exponent = jnp.frexp(abs(jax.lax.stop_gradient(kernel)).max(0))

  def in_units(bits):
    smallest = jnp.maximum(jnp.ldexp(1.0, exponent - bits), FINEST)
    numbers = kernel / smallest[None]
    _, size = jnp.frexp(jax.lax.stop_gradient(numbers))
    step = jnp.ldexp(1.0, jnp.maximum(size - 8, 0))
    largest = 2.0**bits - 2.0 ** (bits - 8) if bits > 8 else 2.0**bits - 1
    return jnp.clip(straight_through.nearest(numbers / step) * step, -largest, largest), smallest

  numbers, smallest = in_units(BITS[-1])
  for bits in BITS[-2::-1]:
    finer, unit = in_units(bits)
    # Whole numbers are added up: the outcome is the same everywhere.
    fits = abs(jax.lax.stop_gradient(finer)).astype(jnp.int32).sum(0) <= COLUMN_MOST
    numbers = jnp.where(jnp.broadcast_to(fits, finer.shape), finer, numbers)
    smallest = jnp.where(fits, unit, smallest)
  return numbers * smallest[None], smallest

"""The local autoregressive model as an integer network: the same bytes on every machine.

p(x) = prod_i p(x_i | x_N(i)) as in `local_pixels`, by a network whose numbers are integers, held in
float32. Factors of its products have 8 bits, and weights 8 significant bits, which bfloat16 holds
exactly. Every partial sum is a multiple of its column's unit, a power of two, and stays below 2^24
units: float32 holds it exactly, in any order of summation and on any device. The outputs are
integers, too, from which `integer_mixture` computes frequencies by tables. Encoder and decoder
therefore agree by arithmetic.

Training uses the same numbers: first as floats in the integers' ranges (`whole=False`,
range-constrained pre-training), then rounded, with straight-through gradients (Bengio et al.,
2013). Hidden units and inputs are in units of 1/32, up to 255 of them.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from conv_draw.autoregressive import integer_mixture, products
from conv_draw.autoregressive import integer_tables as tables
from conv_draw.autoregressive.local_pixels import (
  along,
  by_parts,
  layers,
  look,
  neighbours,
  put,
  valid_and_edges,
)
from conv_draw.autoregressive.mixture_pixels import LogisticMixture, LogisticMixturePixels
from conv_draw.errors import UserError
from conv_draw.model import straight_through
from conv_draw.model.image_model import Float32Parameters

UNIT = 32  # inputs and hidden units are in 1 / UNIT
INPUT_MAX = 255  # largest factor of a product, in 1 / UNIT
HIDDEN_MAX = 2**12  # bound of hidden units before they are rectified
# Bounds of a column's weights (the sum of their sizes) and of its bias, in units of its smallest
# weight: with inputs up to INPUT_MAX, partial sums stay below 2^24.
COLUMN_MAX = 15 * 2**12
BIAS_MAX = 2**19
FINEST = 2.0**-19  # smallest unit of a column: the 1/2 that rounding adds is at most 2^18 units
BITS = (10, 9, 8, 7)  # of a column's largest weight, in units of its smallest: the first that fits


class IntegerPixels(Float32Parameters, nn.Module):
  """p(x), pixel by pixel: `apply` it with method `cost`, `cost_at`, `mixture_at` or `draw`.

  Images have any size and values 0..255.

  Attributes:
    channels: C, 1 or 3.
    horizon: h, the context radius.
    features: hidden units.
    residual_layers: number of layers between the first and the last, each of which adds to the
      hidden units.
    mixtures: K.
    whole: integers; if not, floats in the same ranges, for range-constrained pre-training.
    rounded: the parameters are those that `rounded` returns, and need not be rounded again.
    compute_dtype: of the factors of products: bfloat16 and float32 give the same results.
  """

  channels: int
  horizon: int = 3
  features: int = 160
  residual_layers: int = 2
  mixtures: int = 5
  whole: bool = True
  rounded: bool = False
  compute_dtype: jnp.dtype = jnp.float32

  def setup(self):
    c, h, k = self.channels, self.horizon, self.mixtures
    inputs = len(neighbours(h)) * c + 3 * h + c + 1
    outputs = k * (c + 1) * (c + 2) // 2

    most = max(inputs, self.features)
    if most * (2 ** BITS[-1] - 1) > COLUMN_MAX:  # else the fewest bits always fit
      raise UserError(
          f'sums of {most} products are not exact in float32: lower --config.local.features or '
          '--config.local.horizon of the integer network')
    self.first, self.residual, self.last = layers(
        self.param, inputs, self.features, self.residual_layers, outputs)

  @property
  def pixels(self) -> LogisticMixturePixels:
    """The distribution of a pixel, of which the integers are an approximation."""
    return LogisticMixturePixels(256, self.mixtures)

  @property
  def uniforms(self) -> int:
    """U, the number of uniform random numbers that `draw` takes per pixel."""
    return self.channels

  def cost(self, images: jax.Array) -> jax.Array:
    """-log p(x_i | x_N(i)) in nats, of all pixels, by channel: [B, H, W, C].

    If `whole`, of the frequencies that files use, without gradients.
    """
    score = self.table_cost_at if self.whole else self.cost_at
    return by_parts(images, lambda rows, columns: score(images, rows, columns))

  def table_cost_at(self, images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """`cost_at`, of the frequencies that files use, without gradients."""
    b, n = rows.shape
    values = look(images.astype(jnp.int32), [(0, 0)], rows, columns)
    values = values.reshape(-1, self.channels).T
    _, frequencies = self.intervals_at(images, rows, columns, values)
    cost = math.log(tables.TOTAL) - jnp.log(frequencies.astype(jnp.float32))
    return cost.T.reshape(b, n, self.channels)

  def intervals_at(self, images: jax.Array, rows: jax.Array, columns: jax.Array,
                   values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(starts, frequencies) of values in the tables of their pixels, int32 [c, B N].

    Args:
      images: [B, H, W, C].
      rows, columns: int [B, N], of N pixels of each image.
      values: int32 [c, B N], of the first c channels.
    """
    known, found = iter(values), []

    def know(channel):
      value = next(known)
      found.append(channel.interval(value))
      return value

    integer_mixture.channels(self.mixture_at(images, rows, columns), len(values), know)
    starts, frequencies = zip(*found, strict=True)
    return jnp.stack(starts), jnp.stack(frequencies)

  def draw(self, uniforms: jax.Array, images: jax.Array, first: ArrayLike,
           last: ArrayLike) -> jax.Array:
    """`images` with the pixels of wavefronts first..last-1 drawn, as `LocalPixels.draw`; U = C."""
    places = jnp.floor(uniforms * tables.TOTAL).astype(jnp.int32)

    def one(number, images):
      rows, columns = along(images, number, self.horizon)
      image = jnp.arange(len(images))[:, None]
      at = iter(places[image, rows, columns].reshape(-1, self.channels).T)
      values = integer_mixture.channels(
          self.mixture_at(images, rows, columns), self.channels,
          lambda channel: channel.find(next(at)))
      return put(images, rows, columns, jnp.stack(values, -1))

    return jax.lax.fori_loop(first, last, one, images)

  def numbers_at(self, images: jax.Array, rows: jax.Array, columns: jax.Array,
                 surrounded: bool = False) -> 'tuple[jax.Array, Seen]':
    """The network's outputs for N pixels of each image: float32 integers [R, B N]; and `Seen`."""
    near = look(jnp.asarray(images, jnp.float32), neighbours(self.horizon), rows, columns,
                self.horizon if surrounded else 0)
    seen = self._see(near.reshape(-1, *near.shape[2:]))
    hidden = self._layer(seen.inputs, self.first, UNIT)
    for layer in self.residual:
      hidden = self._clip(hidden + self._layer(self._rectify(hidden), layer, UNIT), HIDDEN_MAX)
    # The last axis, of pixels, is long, whereas a pixel has few numbers.
    numbers = self._layer(self._rectify(hidden), self.last, tables.NATURAL)
    return products.row_by_row(numbers.T), seen

  def cost_at(self, images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """-log p(x_i | x_N(i)) in nats, of N pixels of each image, by channel: [B, N, C].

    It has gradients, as it is that of the mixture, which the tables approximate.
    """
    numbers, seen = self.numbers_at(images, rows, columns)
    x = look(jnp.asarray(images, jnp.float32), [(0, 0)], rows, columns)[..., 0, :]
    flat = products.column_by_column(x.reshape(-1, self.channels) / 255)
    cost = jnp.concatenate(
        self.pixels.costs(self._mixture(numbers, seen), flat, 1 / tables.TOTAL), -1)
    return products.column_by_column(cost).reshape(x.shape)

  def mixture_at(self, images: jax.Array, rows: jax.Array, columns: jax.Array,
                 surrounded: bool = False) -> integer_mixture.IntegerMixture:
    """The `IntegerMixture` of N pixels of each image, B N in all, if `whole`.

    Args:
      images: [B, H, W, C].
      rows, columns: int [B, N].
      surrounded: whether `images` are already `local_pixels.surrounded` by the context radius.
    """
    numbers, seen = self.numbers_at(images, rows, columns, surrounded)
    rows = self._rows(numbers)
    integers = lambda a: a.astype(jnp.int32)
    return integer_mixture.IntegerMixture(
        integer_mixture.from_logits(integers(rows[0])),
        [integers(a) for a in self._means(rows, seen)],
        [integers(a) for a in self._scales(rows, seen)],
        [integers(a) for a in self._slopes(rows)])

  def _see(self, near):
    """`Seen` of neighbours float32 [N, M, C]."""
    valid, edges = valid_and_edges(near, self.horizon)
    west, north = map(neighbours(self.horizon).index, ((0, -1), (-1, 0)))
    count = (valid[:, west] + valid[:, north])[:, None]
    total = sum(valid[:, i, None] * near[:, i] for i in (west, north))
    # The mean of west and north, the only one of them in the image, or mid grey.
    reference = jnp.floor(jnp.where(count == 2, total / 2, jnp.where(count == 1, total, 128)))
    difference = (near - reference[:, None]) * valid[..., None]
    entries = (self.channels * jnp.maximum(valid.sum(1), 1)).astype(jnp.int32)
    mean = tables.SUBPIXEL * abs(difference).sum((1, 2)).astype(jnp.int32) // entries
    spread = integer_mixture.look_up(tables.spread_of(), mean)
    gain = integer_mixture.look_up(tables.gains(), spread)
    scaled = jnp.clip(
        straight_through.nearest(difference * gain[:, None, None]), -INPUT_MAX, INPUT_MAX)
    parts = [scaled.reshape(len(near), -1), edges * UNIT, jnp.round((reference - 128) / 4),
             4.0 * spread[:, None].astype(jnp.float32) - 64]
    return Seen(jnp.concatenate(parts, -1), reference, spread)

  def _layer(self, x, layer, unit):
    """A linear layer: [N, I] in 1 / UNIT -> [N, O] in 1 / `unit`."""
    kernel, bias = layer
    kernel, bias = kernel * (unit / UNIT), bias * unit
    if self.whole and not self.rounded:
      kernel, bias = _round_layer(kernel, bias)
    multiply = products.bfloat16 if self.compute_dtype == jnp.bfloat16 else functools.partial(
        jnp.matmul, precision='highest')
    return self._floor(multiply(x, kernel) + bias[None] + 0.5)

  def _rectify(self, hidden):
    return jnp.clip(hidden, 0, INPUT_MAX)

  def _clip(self, numbers, most):
    return jnp.clip(numbers, -most, most)

  def _floor(self, numbers):
    return straight_through.floor(numbers) if self.whole else numbers

  def _rows(self, numbers):
    """[K, N] each: logits, means by channel, log scales by channel, slopes by pair."""
    return jnp.split(numbers, len(numbers) // self.mixtures)

  def _means(self, rows, seen):
    """Means by channel [K, N], in 1/16 grey values, given the means of the earlier channels."""
    k = self.mixtures
    unit = integer_mixture.look_up(tables.units(), seen.spread)
    apart = (jnp.arange(k) * 2 + 1 - k)[:, None] * (tables.NATURAL // k)
    apart = apart.astype(jnp.float32)
    return [
        (seen.reference[:, c] * tables.SUBPIXEL)[None]
        + self._floor((self._clip(row + apart, 2**10)) * unit[None] / tables.NATURAL)
        for c, row in enumerate(rows[1 : self.channels + 1])]

  def _scales(self, rows, seen):
    """Scales by channel [K, N]: indices in `tables.widths`."""
    first = seen.spread * tables.SPREAD_STEP + tables.SCALE_OF_1 - tables.NATURAL
    return [jnp.clip(row + first.astype(jnp.float32)[None], 0, tables.SCALES - 1)
            for row in rows[self.channels + 1 : 2 * self.channels + 1]]

  def _slopes(self, rows):
    """Slopes by pair of channels [K, N], in 1 / NATURAL."""
    return [self._clip(row + tables.NATURAL, 2 * tables.NATURAL)
            for row in rows[2 * self.channels + 1 :]]

  def _mixture(self, numbers, seen):
    """The `LogisticMixture`, of arrays [N, K], that the outputs stand for."""
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
  """The inputs of N pixels, and the reference and unit of their outputs."""

  inputs: jax.Array  # [N, I] integers
  reference: jax.Array  # [N, C] integer grey values
  spread: jax.Array  # int32 [N]: indices in `tables.units`


def rounded(params: dict) -> dict:
  """The rounded parameters of an `IntegerPixels`, as its layers use them; idempotent."""
  layers = dict(params['params'])
  for name in sorted({key.rpartition('_')[0] for key in layers}):
    unit = tables.NATURAL if name == 'last' else UNIT
    kernel, bias = layers[f'{name}_kernel'], layers[f'{name}_bias']
    kernel, bias = _round_layer(kernel * (unit / UNIT), bias * unit)
    layers |= {f'{name}_kernel': kernel * (UNIT / unit), f'{name}_bias': bias / unit}
  return {'params': layers}


def inexact(params: dict) -> str | None:
  """Why float32 might not hold every partial sum of `rounded` parameters exactly; None if it does.

  The weights and the bias of a column, and the 1/2 that rounding adds, must be integer multiples of
  a power of two, and sums with inputs up to INPUT_MAX less than 2^24 of it, in any order of
  addition. bfloat16 must hold each weight.
  """
  layers = {name: np.asarray(value, np.float64) for name, value in params['params'].items()}
  for name in sorted({key.rpartition('_')[0] for key in layers}):
    unit = tables.NATURAL if name == 'last' else UNIT
    kernel, bias = layers[f'{name}_kernel'] * (unit / UNIT), layers[f'{name}_bias'] * unit
    significant = kernel.astype(jnp.bfloat16).astype(np.float64)
    if (kernel != significant).any():
      return f'{name}: weights have more than 8 significant bits'
    terms = np.concatenate([kernel, bias[None], np.full((1, len(bias)), 0.5)]) / FINEST
    if (terms != np.rint(terms)).any():
      return f'{name}: numbers finer than 2^-19'
    numbers = terms.astype(np.int64)
    unit = np.where(numbers, numbers & -numbers, 2**62).min(0)  # divides the column
    sums = abs(numbers[:-2]).sum(0) * INPUT_MAX + abs(numbers[-2:]).sum(0)
    if (sums >= 2**24 * unit).any():
      return f'{name}: partial sums may need more than 24 bits'
  return None


def _round_layer(kernel, bias):
  """A layer's rounded (kernel, bias)."""
  kernel, smallest = round_kernel(kernel)
  bias = jnp.clip(straight_through.nearest(bias / smallest), -BIAS_MAX, BIAS_MAX)
  return kernel, bias * smallest


def round_kernel(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(weights [I, O], units [O]): integers of 8 significant bits times their column's unit.

  Units are powers of two. The function is idempotent.
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
    # A sum of integers is the same on every machine.
    fits = abs(jax.lax.stop_gradient(finer)).astype(jnp.int32).sum(0) <= COLUMN_MAX
    numbers = jnp.where(jnp.broadcast_to(fits, finer.shape), finer, numbers)
    smallest = jnp.where(fits, unit, smallest)
  return numbers * smallest[None], smallest

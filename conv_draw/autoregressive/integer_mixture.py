"""Discretised mixtures of logistics in integers: frequencies of values for an entropy coder.

As `mixture_pixels.LogisticMixturePixels`, with 1/256 of the mass spread over all values alike, and
with everything read from tables of integers. All is int32 or, where it may be large, uint32
arithmetic without overflow, and so the same on every machine.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from conv_draw.autoregressive import integer_tables as tables

NATURAL_BITS = tables.NATURAL.bit_length() - 1

# No mean is further out, in 1 / SUBPIXEL, lest its distance times a width overflow.
MEAN_MOST = 2**15


class IntegerMixture(NamedTuple):
  """K components of N pixels, int32."""

  weights: jax.Array  # [K, N], adding up to `tables.WEIGHTS`
  means: list  # by channel [K, N] in 1 / SUBPIXEL grey values, the earlier ones at their means
  scales: list  # by channel [K, N]: places in `tables.widths`
  slopes: list  # by pair of channels [K, N] in 1 / NATURAL

  def mean_given(self, earlier):
    """The means of channel c = len(earlier), given values int32 [N] of those before."""
    c = len(earlier)
    mean = self.means[c]
    for e, value in enumerate(earlier):
      slope = self.slopes[c * (c - 1) // 2 + e]
      mean += slope * ((value * tables.SUBPIXEL)[None] - self.means[e]) >> NATURAL_BITS
    return jnp.clip(mean, -MEAN_MOST, MEAN_MOST)


def normalise(values):
  """Not negative int32 [K, N], sums below 2^31 -> the same in proportion, adding up to WEIGHTS."""
  total = values.sum(0)
  excess = jnp.maximum(13 - jax.lax.clz(total), 0)  # bits above 2^19
  values = values >> excess[None]
  weights = values * tables.WEIGHTS // jnp.maximum(values.sum(0, keepdims=True), 1)
  return weights.at[0].add(tables.WEIGHTS - weights.sum(0))


def from_logits(logits):
  """Weights of int32 logits [K, N] in 1 / NATURAL nats."""
  below = jnp.minimum(logits.max(0, keepdims=True) - logits, tables.REACH * tables.NATURAL - 1)
  return normalise(look_up(tables.exponentials(), below))


def look_up(table, index):
  """`table[index]` of integers that are in it, without a check for each."""
  return jnp.asarray(table).at[index].get(mode='promise_in_bounds')


def below(edge, mean, scale):
  """The mass below value `edge` - 1/2, in 1 / ONE: int32, elementwise.

  That of value 0 begins at 0, and that of the last value ends at ONE.
  """
  distance = edge * tables.SUBPIXEL - tables.SUBPIXEL // 2 - mean
  reach = tables.REACH << 16
  a = distance * look_up(tables.widths(), scale)
  a = jnp.clip(a, -reach, reach) + reach
  bits = 16 - (tables.STEP.bit_length() - 1)
  place, part = a >> bits, a & (2**bits - 1)
  both = look_up(tables.logistic(), place)
  low, rise = both >> tables.RISE_BITS, both & (2**tables.RISE_BITS - 1)
  inside = low + (rise * part >> bits)
  return jnp.where(edge <= 0, 0, jnp.where(edge >= 256, tables.ONE, inside))


def start(edge, weights, mean, scale):
  """The frequencies of all values below `edge` int32 [N], int32 [N]: 0 at 0, TOTAL at 256."""
  # Component by component, which compiles to loops over pixels, the many.
  mass = sum(w * below(edge, m, s) for w, m, s in zip(weights, mean, scale, strict=True))
  return (mass >> 14) + edge


class Channel(NamedTuple):
  """The mixture of one channel of N pixels, those before it known."""

  weights: jax.Array  # [K, N]
  mean: jax.Array  # [K, N]
  scale: jax.Array  # [K, N]

  def interval(self, value):
    """(start, frequency) of values int32 [N], out of TOTAL."""
    first = start(value, *self)
    return first, start(value + 1, *self) - first

  def find(self, place):
    """The value within whose interval is `place` int32 [N] in 0..TOTAL-1."""
    def halve(step, value):
      higher = value + (128 >> step)
      return jnp.where(start(higher, *self) <= place, higher, value)

    return jax.lax.fori_loop(0, 8, halve, jnp.zeros_like(place))

  def given(self, value):
    """The components' weights once the value is known, [K, N]."""
    value = value[None]
    mass = below(value + 1, self.mean, self.scale) - below(value, self.mean, self.scale)
    return normalise(self.weights * (mass + tables.ONE // tables.TOTAL))


def channels(mixture, count, know):
  """Walks through a pixel's channels: `know(channel)` returns the value int32 [N] of each.

  Returns: the values.
  """
  weights, values = mixture.weights, []
  for c in range(count):
    channel = Channel(weights, mixture.mean_given(values), mixture.scales[c])
    values.append(know(channel))
    if c + 1 < count:
      weights = channel.given(values[-1])
  return values

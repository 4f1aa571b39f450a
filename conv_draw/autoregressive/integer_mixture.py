"""Discretised mixtures of logistics in integers: the frequencies of values for an entropy coder.

The mixture is that of `mixture_pixels.LogisticMixturePixels`, with 1/256 of the mass spread equally
over all values, and computed by tables of integers. All arithmetic is int32, or uint32 for large
numbers, without overflow, and so the same on every machine.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from conv_draw.autoregressive import integer_tables as tables

NATURAL_BITS = tables.NATURAL.bit_length() - 1

MEAN_MAX = 2**15  # bound of means in 1 / SUBPIXEL: the product of distance and width fits int32


class IntegerMixture(NamedTuple):
  """K components of N pixels, int32."""

  weights: jax.Array  # [K, N], with sum `tables.WEIGHTS`
  means: list  # by channel [K, N] in 1 / SUBPIXEL grey values, given the means of earlier channels
  scales: list  # by channel [K, N]: indices in `tables.widths`
  slopes: list  # by pair of channels [K, N] in 1 / NATURAL

  def mean_given(self, earlier):
    """The means of channel c = len(earlier), given values int32 [N] of the earlier channels."""
    c = len(earlier)
    mean = self.means[c]
    for e, value in enumerate(earlier):
      slope = self.slopes[c * (c - 1) // 2 + e]
      mean += slope * ((value * tables.SUBPIXEL)[None] - self.means[e]) >> NATURAL_BITS
    return jnp.clip(mean, -MEAN_MAX, MEAN_MAX)


def normalise(values):
  """Weights [K, N] with sum WEIGHTS, proportional to int32 values >= 0 with sums below 2^31."""
  total = values.sum(0)
  excess = jnp.maximum(13 - jax.lax.clz(total), 0)  # bits above 2^19
  values = values >> excess[None]
  weights = values * tables.WEIGHTS // jnp.maximum(values.sum(0, keepdims=True), 1)
  return weights.at[0].add(tables.WEIGHTS - weights.sum(0))


def from_logits(logits):
  """The weights of int32 logits [K, N] in 1 / NATURAL."""
  below = logits.max(0, keepdims=True) - logits
  below = jnp.minimum(below, tables.LOGISTIC_RANGE * tables.NATURAL - 1)
  return normalise(look_up(tables.exponentials(), below))


def look_up(table, index):
  """`table[index]`, without bounds checks."""
  return jnp.asarray(table).at[index].get(mode='promise_in_bounds')


def below(edge, mean, scale):
  """The mass of a logistic below value `edge` - 1/2, in 1 / ONE: int32, elementwise.

  It is 0 at edge 0 and ONE at edge 256.
  """
  distance = edge * tables.SUBPIXEL - tables.SUBPIXEL // 2 - mean
  reach = tables.LOGISTIC_RANGE << 16
  a = distance * look_up(tables.widths(), scale)
  a = jnp.clip(a, -reach, reach) + reach
  bits = 16 - (tables.LOGISTIC_STEPS.bit_length() - 1)
  place, part = a >> bits, a & (2**bits - 1)
  both = look_up(tables.logistic(), place)
  low, rise = both >> tables.RISE_BITS, both & (2**tables.RISE_BITS - 1)
  between = low + (rise * part >> bits)
  return jnp.where(edge <= 0, 0, jnp.where(edge >= 256, tables.ONE, between))


def start(edge, weights, mean, scale):
  """The sum of the frequencies of all values below `edge` int32 [N]: int32 [N], TOTAL at 256."""
  # Component by component, which compiles to loops over pixels.
  mass = sum(w * below(edge, m, s) for w, m, s in zip(weights, mean, scale, strict=True))
  return (mass >> 14) + edge


class Channel(NamedTuple):
  """The mixture of one channel of N pixels, given the earlier channels."""

  weights: jax.Array  # [K, N]
  mean: jax.Array  # [K, N]
  scale: jax.Array  # [K, N]

  def interval(self, value):
    """(start, frequency) of values int32 [N], of a total of TOTAL."""
    first = start(value, *self)
    return first, start(value + 1, *self) - first

  def find(self, place):
    """The value whose interval contains `place` int32 [N] in 0..TOTAL-1."""
    def halve(step, value):
      higher = value + (128 >> step)
      return jnp.where(start(higher, *self) <= place, higher, value)

    return jax.lax.fori_loop(0, 8, halve, jnp.zeros_like(place))

  def given(self, value):
    """The components' weights [K, N] given the channel's value."""
    value = value[None]
    mass = below(value + 1, self.mean, self.scale) - below(value, self.mean, self.scale)
    return normalise(self.weights * (mass + tables.ONE // tables.TOTAL))


def channels(mixture, count, know):
  """The values of the first `count` channels of N pixels.

  Args:
    mixture: `IntegerMixture`.
    count: number of channels.
    know: `Channel` -> its value int32 [N]; called channel by channel.
  """
  weights, values = mixture.weights, []
  for c in range(count):
    channel = Channel(weights, mixture.mean_given(values), mixture.scales[c])
    values.append(know(channel))
    if c + 1 < count:
      weights = channel.given(values[-1])
  return values

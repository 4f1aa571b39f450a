"""Discretised mixtures of logistics as p(x | canvas), with channels linked by slopes."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def logistic_log_mass(value, mean, log_scale, grey_levels):
  """log of the mass of a logistic distribution in the bin of a pixel value, elementwise.

  The bin of value v reaches from v - 1/2 to v + 1/2; the first and the last reach to infinity.
  Accurate far out in the tails, too, and with finite gradients: of edges a > b in standard units,
  sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)).

  Args:
    value: 0, 1, ..., grey_levels - 1, as floats. With integer values, bins share their edges
      exactly, so that masses sum to 1 in float32.
    mean, log_scale: of the logistic, for pixels value / (grey_levels - 1) in [0, 1].
    grey_levels: the number of values.
  """
  per_bin = jnp.exp(-log_scale) / (grey_levels - 1)  # the width of a bin in standard units
  distance = value - mean * (grey_levels - 1)
  first, last = value == 0, value == grey_levels - 1
  a = jnp.where(last, jnp.inf, (distance + 0.5) * per_bin)
  b = jnp.where(first, -jnp.inf, (distance - 0.5) * per_bin)
  width = jnp.where(first | last, jnp.inf, per_bin)
  # log sigmoid(a) = min(a, 0) - log(1 + exp(-|a|)); one logarithm of the bounded factors.
  bounded = -jnp.expm1(-width) / ((1 + jnp.exp(-abs(a))) * (1 + jnp.exp(-abs(b))))
  return jnp.minimum(a, 0) + jnp.minimum(-b, 0) + jnp.log(bounded)


def clipped_logistic_mean(mean, scale):
  """E[min(max(X, 0), 1)] of a logistic X, elementwise: the integral of P(X > u) over [0, 1]."""
  # scale (softplus(mean / scale) - softplus((mean - 1) / scale)), without its cancellation
  tail = lambda edge: 1 + jnp.exp(-abs(mean - edge) / scale)
  return jnp.clip(mean, 0, 1) + scale * jnp.log(tail(0) / tail(1))


class LogisticMixture(NamedTuple):
  """The parameters of K components for every pixel."""

  log_weights: jax.Array  # [..., K]
  means: list  # by channel, [..., K], given mid grey in the earlier channels
  log_scales: list  # by channel, [..., K]
  slopes: list  # by pair of channels, [..., K] in (-1, 1)

  def mean_given(self, earlier):
    """The components' means of channel c = len(earlier), given the earlier ones, [..., 1 or K]."""
    c = len(earlier)
    slopes = self.slopes[c * (c - 1) // 2 :][:c]
    return self.means[c] + sum(s * (x - 0.5) for s, x in zip(slopes, earlier, strict=True))


@dataclasses.dataclass(frozen=True)
class LogisticMixturePixels:
  """Pixels with `grey_levels` values: a discretised mixture of K logistics (Salimans et al., 2017).

  A pixel has one component for all its C channels. Given the component, channel c is logistic with
  a mean that is linear in the earlier channels, and a value has the mass of its bin. The masses of
  all values sum to 1: costs are exact, where `gaussian_cost` is a bound.

  The canvas has R = K (C + 1) (C + 2) / 2 channels, in rows of K, one number per component:
    1 row            logits of the components' weights
    C rows           means, of pixels in [0, 1]
    C rows           log scales, clipped to at least 1/20 of a bin and at most exp(2)
    C (C-1) / 2 rows slopes before tanh: of channel 1 in 0, of 2 in 0, of 2 in 1, of 3 in 0, ...
  """

  grey_levels: int = 256
  mixtures: int = 5  # K

  def canvas_channels(self, channels: int) -> int:
    """R, for images of C channels."""
    return self.mixtures * (channels + 1) * (channels + 2) // 2

  def initial_canvas(self, channels: int) -> jax.Array:
    """The initial r_0, [R]: equal weights, broad components spread over the grey values."""
    k = self.mixtures
    # Means differ, because equal components would have equal gradients.
    means = (jnp.arange(k).astype(jnp.float32) + 0.5) / k
    return jnp.concatenate([
        jnp.zeros(k), jnp.tile(means, channels), jnp.full(k * channels, math.log(0.1)),
        jnp.zeros(k * channels * (channels - 1) // 2)])

  def mean(self, canvas: ArrayLike) -> jax.Array:
    """mu(r) of (1): [..., R] -> [..., C] in [0, 1], the expectation of the pixel.

    With C = 1 it is exact up to the rounding to `grey_levels` values. With more channels, the mean
    of a component's channel is taken at the means of its earlier channels.
    """
    mixture = self._split(canvas)
    weights = jnp.exp(mixture.log_weights)
    means = []
    for log_scale in mixture.log_scales:
      means.append(clipped_logistic_mean(mixture.mean_given(means), jnp.exp(log_scale)))
    return jnp.stack([(weights * mean).sum(-1) for mean in means], -1)

  def cost(self, x: ArrayLike, canvas: ArrayLike) -> jax.Array:
    """Nats per pixel and channel: x [..., C] in [0, 1], canvas [..., R] -> [..., C].

    Entry c is -log P(x_c | x_0 ... x_{c-1}), so that the sum over channels is -log P(x).
    """
    return jnp.concatenate(self.costs(self._split(canvas), x), -1)

  def uniforms(self, channels: int) -> int:
    """U, the number of uniform random numbers that `draw` takes per pixel of C channels."""
    return 1 + channels

  def draw(self, canvas: ArrayLike, uniforms: ArrayLike) -> jax.Array:
    """Samples pixels: canvas [..., R], uniforms [..., 1 + C] in (0, 1) -> grey values [..., C].

    The first uniform number draws the component, each of the others a channel.
    """
    mixture = self._split(canvas)
    up_to = jnp.cumsum(jnp.exp(mixture.log_weights), -1)
    component = (uniforms[..., :1] > up_to[..., :-1]).sum(-1, keepdims=True)
    chosen = lambda numbers: jnp.take_along_axis(numbers, component, -1)
    earlier, values = [], []
    for c, log_scale in enumerate(mixture.log_scales):
      u = uniforms[..., c + 1 : c + 2]
      x = chosen(mixture.mean_given(earlier)) + jnp.exp(chosen(log_scale)) * jnp.log(u / (1 - u))
      values.append(jnp.clip(jnp.round(x * (self.grey_levels - 1)), 0, self.grey_levels - 1))
      earlier.append(values[-1] / (self.grey_levels - 1))
    return jnp.concatenate(values, -1)

  def _split(self, canvas):
    """The `LogisticMixture` of a canvas [..., R]; ValueError if no C has R canvas channels."""
    count = canvas.shape[-1] // self.mixtures
    c = math.isqrt(2 * count) - 1  # solves (C + 1) (C + 2) = 2 count
    if canvas.shape[-1] != self.canvas_channels(c):
      raise ValueError(
          f'{canvas.shape[-1]} canvas channels are not those of {self.mixtures} mixtures')
    # Separate arrays: the gradient of slices of one array would be a sum of padded arrays.
    rows = jnp.split(canvas, count, -1)
    bin_width = 1 / (self.grey_levels - 1)
    clip = lambda log_scale: jnp.clip(log_scale, math.log(bin_width / 20), 2.0)
    return LogisticMixture(
        jax.nn.log_softmax(rows[0]), rows[1 : c + 1],
        [clip(row) for row in rows[c + 1 : 2 * c + 1]],
        [jnp.tanh(row) for row in rows[2 * c + 1 :]])

  def costs(self, mixture: LogisticMixture, x: ArrayLike, least: float = 0.0) -> list[jax.Array]:
    """The costs of pixels under a mixture, channel by channel.

    Args:
      mixture: `LogisticMixture`.
      x: [..., C] in [0, 1].
      least: a mass that every value has in addition; the components share the remaining mass.
    Returns:
      [-log P(x_c | x_0 ... x_{c-1}) in nats, [..., 1], of each channel c].
    """
    log_weights, costs, earlier = mixture.log_weights, [], []
    for c in range(x.shape[-1]):
      value = x[..., c : c + 1]
      log_masses = logistic_log_mass(
          jnp.round(value * (self.grey_levels - 1)), mixture.mean_given(earlier),
          mixture.log_scales[c], self.grey_levels)
      if least:
        rest = math.log1p(-least * self.grey_levels)
        log_masses = jnp.logaddexp(log_masses + rest, math.log(least))
      joint = log_weights + log_masses
      costs.append(-jax.nn.logsumexp(joint, -1, keepdims=True))
      # Not joint + cost, which would not sum to 1 where the cost is large.
      log_weights = jax.nn.log_softmax(joint)
      earlier.append(value)
    return costs

"""Per-image parameter tuning: offsets of an integer network's biases that suit one image.

Offsets are integers, one for each bias, in 1 / PRECISION of a hidden unit or of a nat. They are
fitted to the image by gradients through the rounding, and stored in Rice's code before the pixels.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.autoregressive import integer_pixels
from conv_draw.codec.entropy.range_coder import Undecodable

PRECISION = 128
MAX_OFFSET = 127
MAX_RICE_PARAMETER = 7
UPDATES = (0, 150, 600)  # of fitting, by effort
PIXELS = 2048  # in an update
LEARNING_RATE = 2.0


def biases(params):
  """The names of the biases, in the order of their offsets."""
  return sorted(name for name in params['params'] if name.endswith('_bias'))


def tuned(params, offsets):
  """`integer_pixels.rounded` parameters with offsets, int [n], added to the biases."""
  layers, first = dict(params['params']), 0
  for name in biases(params):
    size = layers[name].size
    layers[name] = layers[name] + offsets[first : first + size] / PRECISION
    first += size
  return integer_pixels.rounded({'params': layers})


def fit(head, params, image, effort):
  """Offsets with which an image takes fewer bits, int [n].

  Args:
    head: `IntegerPixels` of `rounded` parameters.
    image: uint8 [H, W, C].
    effort: index of `UPDATES`.
  """
  import optax  # which decoding does not need
  shown = jnp.asarray(np.broadcast_to(image, (*image.shape[:2], head.channels)))[None]
  size = sum(params['params'][name].size for name in biases(params))
  offsets = jnp.zeros(size)
  state = optax.scale_by_adam().init(offsets)
  for number in range(UPDATES[effort]):
    rate = LEARNING_RATE * (1 + math.cos(math.pi * number / UPDATES[effort])) / 2
    offsets, state = _update(head, image.shape[2], params, shown, offsets, state, number, rate)
  return np.clip(np.rint(offsets), -MAX_OFFSET, MAX_OFFSET).astype(np.int64)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(4, 5))
def _update(head, channels, params, shown, offsets, state, number, rate):
  import optax
  height, width = shown.shape[1:3]
  at = jax.random.randint(jax.random.key(number), (1, PIXELS), 0, height * width)

  def cost(offsets):
    found = head.apply(
        tuned(params, offsets), shown, at // width, at % width, method='cost_at')
    return found[..., :channels].mean()

  gradient = jax.grad(cost)(offsets)
  with jax.numpy_dtype_promotion('standard'):  # Optax raises floats to the power of a count
    update, state = optax.scale_by_adam().update(gradient, state)
  return offsets - rate * update, state


def to_bytes(offsets):
  """Offsets in Rice's code: a byte of its parameter, then bits; no bytes if all are 0."""
  if not np.any(offsets):
    return b''
  folded = np.where(offsets < 0, -2 * offsets - 1, 2 * offsets)
  low = min(range(MAX_RICE_PARAMETER + 1),
            key=lambda low: (folded >> low).sum() + low * folded.size)
  bits = ''.join('1' * (n >> low) + '0' + f'{n & (1 << low) - 1:0{low}b}' * (low > 0)
                 for n in folded.tolist())
  packed = np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord('0'))
  return bytes([low]) + packed.tobytes()


def from_bytes(data, size):
  """Undoes `to_bytes`: int [size]. Raises UserError for damaged data."""
  if not data:
    return np.zeros(size, np.int64)
  low, bits = data[0], np.unpackbits(np.frombuffer(data, np.uint8, offset=1)).tolist()
  folded, at = [], 0
  try:
    for _ in range(size if low <= MAX_RICE_PARAMETER else 0):
      end = bits.index(0, at)
      value = end - at
      for bit in bits[end + 1 : end + 1 + low]:
        value = 2 * value + bit
      folded.append(value)
      at = end + 1 + low
  except ValueError:
    at = len(bits) + 1
  folded = np.array(folded, np.int64)
  offsets = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
  if len(folded) < size or at > len(bits) or abs(offsets).max(initial=0) > MAX_OFFSET or (
      to_bytes(offsets) != data):
    raise Undecodable('its offsets of biases are damaged')
  return offsets

"""An image's own change to a model of whole numbers: of its biases, up to a kilobyte or so.

A change is whole numbers, one for each bias, in 1 / PARTS. It is fitted to the image by gradients
through the rounding, and stored in Rice's code before the pixels.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.autoregressive import integer_pixels, local_pixels
from conv_draw.codec.entropy.stream import Undecodable

PARTS = 128  # of a hidden unit, of a nat
MOST = 127
LOWS = 8  # bits that Rice's code may store as they are: less than so many
STEPS = (0, 150, 600)  # of fitting, by effort
PIXELS = 2048  # in a step
LEARNING_RATE = 2.0


def biases(params):
  """The names of the biases, in the order of a change."""
  return sorted(name for name in params['params'] if name.endswith('_bias'))


def changed(params, numbers):
  """`integer_pixels.rounded` parameters after a change, int [n]; as exact as before."""
  layers, first = dict(params['params']), 0
  for name in biases(params):
    size = layers[name].size
    layers[name] = layers[name] + numbers[first : first + size] / PARTS
    first += size
  return integer_pixels.rounded({'params': layers})


def fit(head, params, image, effort, picture=None):
  """A change with which an image takes fewer bits, int [n].

  Args:
    head: `IntegerPixels` of `rounded` parameters.
    image: uint8 [H, W, C].
    effort: of `STEPS`.
    picture: uint8 [H, W, C] that the head sees, if it sees a canvas.
  """
  import optax  # Decoding does without it.
  shown = jnp.asarray(np.broadcast_to(image, (*image.shape[:2], head.channels)))[None]
  view = None if picture is None else local_pixels.View(jnp.asarray(picture)[None], None)
  size = sum(params['params'][name].size for name in biases(params))
  change = jnp.zeros(size)
  state = optax.scale_by_adam().init(change)
  for number in range(STEPS[effort]):
    rate = LEARNING_RATE * (1 + math.cos(math.pi * number / STEPS[effort])) / 2
    change, state = _step(head, image.shape[2], params, shown, view, change, state, number, rate)
  return np.clip(np.rint(change), -MOST, MOST).astype(np.int64)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(5, 6))
def _step(head, channels, params, shown, view, change, state, number, rate):
  import optax
  height, width = shown.shape[1:3]
  at = jax.random.randint(jax.random.key(number), (1, PIXELS), 0, height * width)

  def cost(change):
    found = head.apply(
        changed(params, change), shown, at // width, at % width, view, method='cost_at')
    return found[..., :channels].mean()

  gradient = jax.grad(cost)(change)
  with jax.numpy_dtype_promotion('standard'):  # Optax raises floats to the power of a count
    update, state = optax.scale_by_adam().update(gradient, state)
  return change - rate * update, state


def to_bytes(numbers):
  """A change in Rice's code: a byte of its parameter, then bits; nothing if nothing changes."""
  if not np.any(numbers):
    return b''
  folded = np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)
  low = min(range(LOWS), key=lambda low: (folded >> low).sum() + low * folded.size)
  bits = ''.join('1' * (n >> low) + '0' + f'{n & (1 << low) - 1:0{low}b}' * (low > 0)
                 for n in folded.tolist())
  packed = np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord('0'))
  return bytes([low]) + packed.tobytes()


def from_bytes(data, size):
  """Undoes `to_bytes`: int [size]. Raises UserError for what it never returned."""
  if not data:
    return np.zeros(size, np.int64)
  low, bits = data[0], np.unpackbits(np.frombuffer(data, np.uint8, offset=1)).tolist()
  folded, at = [], 0
  try:
    for _ in range(size if low < LOWS else 0):
      end = bits.index(0, at)
      value = end - at
      for bit in bits[end + 1 : end + 1 + low]:
        value = 2 * value + bit
      folded.append(value)
      at = end + 1 + low
  except ValueError:
    at = len(bits) + 1
  folded = np.array(folded, np.int64)
  numbers = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
  if len(folded) < size or at > len(bits) or abs(numbers).max(initial=0) > MOST or (
      to_bytes(numbers) != data):
    raise Undecodable('its change to the model is none')
  return numbers

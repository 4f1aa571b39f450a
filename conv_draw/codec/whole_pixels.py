"""Images to bytes and back by local pixels in whole numbers: exact on every machine.

All pixels of a diagonal are coded at once, of all tiles side by side, in calls that are compiled
once for each size of tile. An encoder knows all pixels and asks the network for them in parts; a
decoder asks it diagonal by diagonal.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.codec.entropy import lanes as lanes_lib
from conv_draw.model import integer_mixture, integer_tables, local_pixels

assert integer_tables.TOTAL == lanes_lib.TOTAL

PIXELS_A_LANE = 4096  # a lane costs 4 bytes: tiles of less share one
AT_ONCE = 256  # diagonals in a call


def lanes_of(size, horizon):
  """How many lanes a tile of (H, W) has: at most one for each pixel of a diagonal."""
  _, most = local_pixels.diagonals(size, horizon)
  return max(1, min(most, size[0] * size[1] // PIXELS_A_LANE))


class WholePixels:
  """An `IntegerPixels` with its parameters, for B tiles of (H, W) at a time."""

  def __init__(self, head, params, size, batch):
    assert head.whole
    self.size, self.batch = size, batch
    self._total, _ = local_pixels.diagonals(size, head.horizon)
    self._lanes = lanes_of(size, head.horizon)
    params = {'params': jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params['params'])}
    self._intervals = jax.jit(functools.partial(_intervals, head, params))
    self._put = jax.jit(functools.partial(_put, head), donate_argnums=0)
    self._take = jax.jit(functools.partial(_take, head, params), donate_argnums=(0, 1))
    self._head = head

  def encode(self, images):
    """uint8 [B, H, W, C] -> a list of B bytes, and what the tables promise, bits [B]."""
    with _as_everywhere():
      starts, frequencies = self._intervals(jnp.asarray(images))
      lanes = lanes_lib.empty(len(images), self._lanes, images[0].size)
      for last in range(self._total, 0, -AT_ONCE):
        lanes = self._put(lanes, starts, frequencies, max(last - AT_ONCE, 0), last)
      bits = 16 * images[0].size - np.log2(np.asarray(frequencies, np.float64)).sum((1, 2, 3))
      return lanes_lib.to_bytes(lanes), bits

  def decode(self, data):
    """Undoes `encode`. Raises UserError for what it never returned."""
    with _as_everywhere():
      head, (height, width) = self._head, self.size
      lanes = lanes_lib.from_bytes(data, self._lanes)
      images = local_pixels.surrounded(
          jnp.zeros((len(data), height, width, head.channels)), head.horizon)
      for first in range(0, self._total, AT_ONCE):
        lanes, images = self._take(lanes, images, first, min(first + AT_ONCE, self._total))
      lanes_lib.finish(lanes, data)
      h = head.horizon
      return np.asarray(images[:, h:-h, h:-h]).astype(np.uint8)


@contextlib.contextmanager
def _as_everywhere():
  with jax.enable_x64(False), jax.default_matmul_precision('highest'):
    yield


def _intervals(head, params, images):
  """(starts, frequencies) int32 [B, H, W, C] of the values in their pixels' tables."""
  b, _, _, c = images.shape
  images = images.astype(jnp.int32)

  def at(rows, columns):
    values = local_pixels.look(images, [(0, 0)], rows, columns)[..., 0, :].reshape(-1, c).T
    found = head.apply(params, images, rows, columns, values, method='intervals_at')
    return jnp.concatenate(found).T.reshape(b, -1, 2 * c)

  both = local_pixels.by_parts(images, at)
  return both[..., :c], both[..., c:]


def _slots(head, size, lanes, number):
  """The pixels of a diagonal, one to a lane in each step.

  Returns:
    int rows, columns [steps, L], and whether there is one, bool.
  """
  rows, columns = local_pixels.on_diagonal(number, size, head.horizon)
  missing = -len(rows) % lanes
  rows, columns = (jnp.pad(a, (0, missing), constant_values=-1).reshape(-1, lanes)
                   for a in (rows, columns))
  return jnp.maximum(rows, 0), columns, columns >= 0


def _put(head, lanes, starts, frequencies, first, last):
  """Diagonals last-1 .. first of all tiles."""
  _, height, width, c = starts.shape

  def one(i, lanes):
    rows, columns, there = _slots(head, (height, width), lanes.states.shape[1], last - 1 - i)
    start, frequency = (a[:, rows, jnp.maximum(columns, 0)] for a in (starts, frequencies))
    steps = len(rows)

    def step(j, lanes):
      channel, k = c - 1 - j // steps, steps - 1 - j % steps
      return lanes_lib.put(lanes, start[:, k, :, channel], frequency[:, k, :, channel], there[k])

    return jax.lax.fori_loop(0, c * steps, step, lanes)

  return jax.lax.fori_loop(0, last - first, one, lanes)


def _take(head, params, lanes, images, first, last):
  """Diagonals first .. last-1 of all tiles, into `images`, which are surrounded."""
  b, c = len(images), head.channels
  size = tuple(n - 2 * head.horizon for n in images.shape[1:3])
  count = lanes.states.shape[1]

  def one(number, carry):
    lanes, images = carry
    rows, columns, there = _slots(head, size, count, number)
    everywhere = lambda a: jnp.broadcast_to(a.reshape(-1), (b, a.size))
    at = everywhere(rows), everywhere(columns)
    mixture = head.apply(params, images, *at, surrounded=True, method='mixture_at')

    def know(channel):
      nonlocal lanes
      # [K, B, steps, lanes] -> [steps, K, B, lanes]
      by_step = jax.tree.map(
          lambda a: jnp.moveaxis(a.reshape(len(a), b, *rows.shape), 2, 0), channel)

      def step(lanes, this):
        channel, there = this
        flat = integer_mixture.Channel(*(a.reshape(len(a), -1) for a in channel))
        values = flat.find(lanes_lib.places(lanes).reshape(-1))
        start, frequency = (a.reshape(b, count) for a in flat.interval(values))
        return lanes_lib.take(lanes, start, frequency, there), values.reshape(b, count)

      lanes, values = jax.lax.scan(step, lanes, (by_step, there))
      return jnp.moveaxis(values, 0, 1).reshape(-1)  # [B steps lanes]

    values = integer_mixture.channels(mixture, c, know)
    values = jnp.stack(values, -1).reshape(b, -1, c)
    return lanes, local_pixels.put(images, *at, values, head.horizon)

  return jax.lax.fori_loop(first, last, one, (lanes, images))

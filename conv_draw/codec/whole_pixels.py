"""Images to bytes and back by local pixels in whole numbers: exact on every machine.

All pixels of a wavefront are coded at once, of all tiles side by side, in calls that are compiled
once for each size of tile. An encoder knows all pixels and asks the network for them in parts; a
decoder asks it wavefront by wavefront.
"""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.autoregressive import integer_mixture, integer_pixels, integer_tables, local_pixels
from conv_draw.codec import adapting
from conv_draw.codec.entropy import lanes as lanes_lib
from conv_draw.codec.network import as_everywhere

assert integer_tables.TOTAL == lanes_lib.TOTAL

PIXELS_A_LANE = 4096  # a lane costs 4 bytes: tiles of less share one
AT_ONCE = 256  # wavefronts in a call


def lanes_of(size, horizon):
  """How many lanes a tile of (H, W) has: at most one for each pixel of a wavefront."""
  _, most = local_pixels.wavefronts(size, horizon)
  return max(1, min(most, size[0] * size[1] // PIXELS_A_LANE))


class WholePixels:
  """An `IntegerPixels` with its parameters, for B tiles of up to (H, W) at a time.

  Several threads may encode and decode with it at once.
  """

  def __init__(self, head, params, size, batch, channels):
    """Codes the first `channels` of each pixel: the others, if any, are equal to the first."""
    assert head.whole and channels in (1, head.channels)
    self.size, self.batch, self._channels = size, batch, channels
    self._head = head.clone(rounded=True)
    self._total, _ = local_pixels.wavefronts(size, head.horizon)
    self._lanes = lanes_of(size, head.horizon)
    self._compiled, self._compiling = {}, threading.Lock()
    with as_everywhere():
      self._params = jax.jit(integer_pixels.rounded)(
          {'params': jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params['params'])})
      integer_pixels.check_exact(self._params)
      self._change = jax.jit(adapting.changed)

  @property
  def nothing(self):
    """The bytes of a tile of no pixels."""
    with as_everywhere():
      return lanes_lib.to_bytes(lanes_lib.empty(1, self._lanes, 0))[0]

  @property
  def changes(self):
    """How many numbers an image's change to the model has."""
    return sum(self._params['params'][name].size for name in adapting.biases(self._params))

  def fit(self, image, effort, picture=None):
    """A change to the model for an image uint8 [H, W, C] of any size: `adapting.fit`."""
    with as_everywhere():
      return adapting.fit(self._head, self._params, image, effort, picture)

  def parameters(self, change):
    """What `encode` and `decode` take for an image with that change, int [changes]."""
    with as_everywhere():
      return self._change(self._params, jnp.asarray(change, jnp.float32))

  def encode(self, params, images, sizes, pictures=None):
    """Tiles to bytes.

    Args:
      params: of `parameters`.
      images: uint8 [B, H, W, channels].
      sizes: int32 [B, 2], how much of each there is.
      pictures: uint8 [B, H, W, C], what is seen of a canvas, if the head sees one.
    Returns:
      A list of B bytes, and what the tables promise: float64 [B] bits.
    """
    with as_everywhere():
      b, c = self.batch, self._channels
      inside = _inside(self.size, sizes)
      shown = np.where(inside[..., None], images, np.int32(local_pixels.OUTSIDE))
      shown = jnp.asarray(np.broadcast_to(shown, (*shown.shape[:3], self._head.channels)))
      starts, frequencies = self._run(
          'intervals', functools.partial(_intervals, self._head, c), params, shown,
          _view(pictures, inside))
      lanes = lanes_lib.empty(b, self._lanes, self.size[0] * self.size[1] * c)
      for last in range(self._total, 0, -AT_ONCE):
        lanes = self._run(
            'put', functools.partial(_put, self._head), lanes, starts, frequencies, sizes,
            np.int32(max(last - AT_ONCE, 0)), np.int32(last), donated=0)
      bits = (16 - np.log2(np.asarray(frequencies, np.float64))) * inside[..., None]
      return lanes_lib.to_bytes(lanes), bits.sum((1, 2, 3))

  def decode(self, params, data, sizes, pictures=None):
    """Undoes `encode`, with 0 beyond the sizes. Raises UserError for what it never returned."""
    with as_everywhere():
      h = self._head.horizon
      lanes = lanes_lib.from_bytes(data, self._lanes)
      inside = _inside(self.size, sizes)
      shape = self.batch, *self.size, self._head.channels
      nothing = np.full(shape, local_pixels.OUTSIDE, np.float32)
      images = jnp.where(inside[..., None], 0.0, nothing)
      images = local_pixels.surrounded(images, h)
      view = _view(pictures, inside)
      if view is not None:
        view = view._replace(picture=local_pixels.surrounded(
            view.picture, local_pixels.CANVAS_HORIZON))
      for first in range(0, self._total, AT_ONCE):
        last = min(first + AT_ONCE, self._total)
        lanes, images = self._run(
            'take', functools.partial(_take, self._head, self._channels), params, lanes,
            images, view, sizes, np.int32(first), np.int32(last), donated=(1, 2))
      lanes_lib.finish(lanes, data)
      return np.maximum(images[:, h:-h, h:-h, : self._channels], 0).astype(np.uint8)

  def _run(self, name, function, *args, donated=()):
    """What a function returns, compiled once for arguments of these shapes, by one thread."""
    shapes = tuple(np.shape(x) for x in jax.tree.leaves(args))
    with self._compiling:
      if (name, shapes) not in self._compiled:
        self._compiled[name, shapes] = jax.jit(
            function, donate_argnums=donated).lower(*args).compile()
    return self._compiled[name, shapes](*args)


def _inside(size, sizes):
  """bool [B, H, W]: what there is of tiles."""
  rows, columns = np.indices(size)
  return (rows < sizes[:, 0, None, None]) & (columns < sizes[:, 1, None, None])


def _view(pictures, inside):
  """`local_pixels.View` of pictures uint8 [B, H, W, C], or None of None."""
  if pictures is None:
    return None
  outside = np.float32(local_pixels.OUTSIDE)
  return local_pixels.View(
      jnp.where(inside[..., None], jnp.asarray(pictures, jnp.float32), outside), None)


def _intervals(head, c, params, images, view):
  """(starts, frequencies) int32 [B, H, W, c] of the values in their pixels' tables."""
  b = len(images)

  def at(rows, columns):
    values = local_pixels.look(images, [(0, 0)], rows, columns)[..., 0, :c].reshape(-1, c).T
    values = jnp.maximum(values, 0)  # beyond a tile's size
    found = head.apply(params, images, rows, columns, values, view, method='intervals_at')
    return jnp.concatenate(found).T.reshape(b, -1, 2 * c)

  both = local_pixels.by_parts(images, at)
  return both[..., :c], both[..., c:]


def _slots(head, size, sizes, lanes, number):
  """The pixels of a wavefront in steps of one to a lane.

  Returns:
    int rows, columns [steps, L], and bool [steps, B, L], whether tiles have one there.
  """
  rows, columns = local_pixels.on_wavefront(number, size, head.horizon)
  missing = -len(rows) % lanes
  rows, columns = (jnp.pad(a, (0, missing), constant_values=-1).reshape(-1, lanes)
                   for a in (rows, columns))
  there = (columns >= 0)[:, None] & (rows[:, None] < sizes[None, :, 0, None]) & (
      columns[:, None] < sizes[None, :, 1, None])
  return jnp.maximum(rows, 0), jnp.maximum(columns, 0), there


def _put(head, lanes, starts, frequencies, sizes, first, last):
  """Diagonals last-1 .. first of all tiles."""
  _, height, width, c = starts.shape

  def one(i, lanes):
    rows, columns, there = _slots(
        head, (height, width), sizes, lanes.states.shape[1], last - 1 - i)
    start, frequency = (a[:, rows, columns] for a in (starts, frequencies))
    steps = len(rows)

    def step(j, lanes):
      channel, k = c - 1 - j // steps, steps - 1 - j % steps
      return lanes_lib.put(lanes, start[:, k, :, channel], frequency[:, k, :, channel], there[k])

    return jax.lax.fori_loop(0, c * steps, step, lanes)

  return jax.lax.fori_loop(0, last - first, one, lanes)


def _take(head, c, params, lanes, images, view, sizes, first, last):
  """Diagonals first .. last-1 of all tiles, into `images`, which are surrounded."""
  b = len(images)
  size = tuple(n - 2 * head.horizon for n in images.shape[1:3])
  count = lanes.states.shape[1]

  def one(number, carry):
    lanes, images = carry
    rows, columns, there = _slots(head, size, sizes, count, number)
    everywhere = lambda a: jnp.broadcast_to(a.reshape(-1), (b, a.size))
    at = everywhere(rows), everywhere(columns)
    mixture = head.apply(params, images, *at, view, surrounded=True, method='mixture_at')

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

    values = jnp.stack(integer_mixture.channels(mixture, c, know), -1).reshape(b, -1, c)
    values = jnp.broadcast_to(values, (*values.shape[:2], head.channels))
    known = jnp.moveaxis(there, 1, 0).reshape(b, -1)
    rows, columns = at
    return lanes, local_pixels.put(
        images, rows, jnp.where(known, columns, -1), values, head.horizon)

  return jax.lax.fori_loop(first, last, one, (lanes, images))

"""An image to bytes and back by the integer network: exact on every machine (FORMAT.md).

The pixels of a wavefront are coded at once, of all tiles side by side, in calls that are compiled
once for each size of tile. The encoder knows all pixels and evaluates the network in large calls;
the decoder evaluates it wavefront by wavefront.
"""

import concurrent.futures
import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.autoregressive import integer_mixture, integer_pixels, integer_tables, local_pixels
from conv_draw.codec import parameter_tuning
from conv_draw.codec.entropy import interleaved_rans as rans_lib
from conv_draw.codec.entropy.range_coder import Undecodable
from conv_draw.codec.format import framing
from conv_draw.codec.network import fixed_numerics
from conv_draw.codec.tiling import valid_mask
from conv_draw.machine import startup

assert integer_tables.TOTAL == rans_lib.TOTAL

PIXELS_PER_CODER = 4096  # a coder costs 4 bytes: smaller tiles have one
WAVEFRONTS = 256  # in a call


def encode(codec, tiling, image, effort, progress=None):
  """The bytes of an image.

  Args:
    codec: `TileCodec` for the tiles.
    tiling: `tiling.Tiling` of the image.
    image: [H, W, C] uint8.
    effort: 0 for the parameters as they are; 1 or 2 to try `parameter_tuning`.
    progress: called with how many tiles have been coded, and how many there are.
  """
  untuned = np.zeros(codec.biases, int)
  if not effort:
    return _encode(codec, tiling, image, untuned, progress)
  with fixed_numerics():
    tuned = parameter_tuning.fit(codec.head, codec.params, image, effort)
  return min(_encode(codec, tiling, image, tuned, None),
             _encode(codec, tiling, image, untuned, progress), key=len)


def _encode(codec, tiling, image, offsets, progress):
  params, stored = codec.parameters(offsets), parameter_tuning.to_bytes(offsets)
  parts = [framing.varint(len(stored)), stored]

  def one(numbers):
    return codec.encode(params, tiling.cut(image, numbers), tiling.sizes(numbers))

  for numbers, data in _in_threads(tiling, one, progress):
    for part in data[: len(numbers)]:
      parts += [framing.varint(len(part)), part]
  return b''.join(parts)


def decode(codec, tiling, data, channels, progress=None):
  """Undoes `encode`: [H, W, C = channels] uint8.

  Raises:
    UserError: data of another model.
  """
  cursor = framing.Cursor(data, 'the pixels')
  try:
    offsets = cursor.take(cursor.varint())
    parts = [cursor.take(cursor.varint()) for _ in range(tiling.count)]
  except framing.Cut:
    raise Undecodable('its pixels end too early') from None
  cursor.finish()
  params = codec.parameters(parameter_tuning.from_bytes(offsets, codec.biases))
  image = np.zeros((*tiling.size, channels), np.uint8)

  def one(numbers):
    data = [parts[number] for number in numbers]
    data += [codec.empty_tile] * (tiling.batch - len(data))
    return codec.decode(params, data, tiling.sizes(numbers))

  for numbers, tiles in _in_threads(tiling, one, progress):
    tiling.paste(image, tiles, numbers)
  return image


def _in_threads(tiling, function, progress):
  """Yields (tile numbers, `function` of them) of all tiles in order; a thread for each core."""
  done, chunks = 0, list(tiling.chunks())
  with concurrent.futures.ThreadPoolExecutor(startup.cores()) as threads:
    try:
      for numbers, result in zip(chunks, threads.map(function, chunks), strict=True):
        yield numbers, result
        done += len(numbers)
        if progress is not None:
          progress(done, tiling.count)
    except BaseException:  # an error, or an interrupt: cancel the chunks that have not begun
      threads.shutdown(wait=False, cancel_futures=True)
      raise


def coders_of(size, radius):
  """The number of interleaved coders of a tile of (H, W): at most one for each wavefront pixel."""
  _, most = local_pixels.wavefronts(size, radius)
  return max(1, min(most, size[0] * size[1] // PIXELS_PER_CODER))


class TileCodec:
  """An `IntegerPixels` with its parameters, for B tiles of up to (H, W) at a time.

  Several threads may encode and decode with it at once.

  Attributes:
    head, params: `IntegerPixels` and its parameters, both rounded.
    biases: how many there are.
  """

  def __init__(self, head, params, size, batch, channels):
    """Codes the first `channels` of each pixel: the others, if any, are equal to the first."""
    assert head.whole and channels in (1, head.channels)
    self.size, self.batch, self._channels = size, batch, channels
    self.head = head.clone(rounded=True)
    self._total, _ = local_pixels.wavefronts(size, head.horizon)
    self._coders = coders_of(size, head.horizon)
    self._compiled, self._compiling = {}, threading.Lock()
    with fixed_numerics():
      self.params = jax.jit(integer_pixels.rounded)(
          {'params': jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params['params'])})
      integer_pixels.check_exact(self.params)
      self._tuned = jax.jit(parameter_tuning.tuned)
      self.empty_tile = rans_lib.to_bytes(rans_lib.empty(1, self._coders, 0))[0]
    self.biases = sum(
        self.params['params'][name].size for name in parameter_tuning.biases(self.params))

  def parameters(self, offsets):
    """The parameters for an image with those offsets of the biases, int [biases]."""
    if not np.any(offsets):
      return self.params
    with fixed_numerics():
      return self._tuned(self.params, jnp.asarray(offsets, jnp.float32))

  def encode(self, params, images, sizes):
    """A list of B bytes.

    Args:
      params: of `parameters`.
      images: uint8 [B, H, W, channels].
      sizes: int32 [B, 2], (height, width) of the image in each tile.
    """
    with fixed_numerics():
      b, c = self.batch, self._channels
      valid = valid_mask(self.size, sizes)
      shown = np.where(valid[..., None], images, np.int32(local_pixels.OUTSIDE))
      shown = jnp.asarray(np.broadcast_to(shown, (*shown.shape[:3], self.head.channels)))
      starts, frequencies = self._run(
          'intervals', functools.partial(_intervals, self.head, c), params, shown)
      rans = rans_lib.empty(b, self._coders, self.size[0] * self.size[1] * c)
      for last in range(self._total, 0, -WAVEFRONTS):
        rans = self._run(
            'put', functools.partial(_put, self.head), rans, starts, frequencies, sizes,
            np.int32(max(last - WAVEFRONTS, 0)), np.int32(last), donated=0)
      return rans_lib.to_bytes(rans)

  def decode(self, params, data, sizes):
    """Undoes `encode`, with 0 beyond the sizes. Raises UserError for damaged data."""
    with fixed_numerics():
      h = self.head.horizon
      rans = rans_lib.from_bytes(data, self._coders)
      unknown = np.full((self.batch, *self.size, self.head.channels), local_pixels.OUTSIDE,
                        np.float32)
      images = jnp.where(valid_mask(self.size, sizes)[..., None], 0.0, unknown)
      images = local_pixels.surrounded(images, h)
      for first in range(0, self._total, WAVEFRONTS):
        last = min(first + WAVEFRONTS, self._total)
        rans, images = self._run(
            'take', functools.partial(_take, self.head, self._channels), params, rans, images,
            sizes, np.int32(first), np.int32(last), donated=(1, 2))
      rans_lib.finish(rans, data)
      return np.maximum(images[:, h:-h, h:-h, : self._channels], 0).astype(np.uint8)

  def _run(self, name, function, *args, donated=()):
    """The result of a function, compiled once for arguments of these shapes, by one thread."""
    shapes = tuple(np.shape(x) for x in jax.tree.leaves(args))
    with self._compiling:
      if (name, shapes) not in self._compiled:
        self._compiled[name, shapes] = jax.jit(
            function, donate_argnums=donated).lower(*args).compile()
    return self._compiled[name, shapes](*args)


def _intervals(head, c, params, images):
  """(starts, frequencies) int32 [B, H, W, c] of the values in their pixels' tables."""
  b = len(images)

  def at(rows, columns):
    values = local_pixels.look(images, [(0, 0)], rows, columns)[..., 0, :c].reshape(-1, c).T
    values = jnp.maximum(values, 0)  # beyond a tile's size
    found = head.apply(params, images, rows, columns, values, method='intervals_at')
    return jnp.concatenate(found).T.reshape(b, -1, 2 * c)

  both = local_pixels.by_parts(images, at)
  return both[..., :c], both[..., c:]


def _schedule(head, size, sizes, coders, number):
  """The pixels of a wavefront in steps of one pixel for each of L = `coders`.

  Returns:
    int rows, columns [steps, L], and bool [steps, B, L], whether tiles have such a pixel.
  """
  rows, columns = local_pixels.on_wavefront(number, size, head.horizon)
  missing = -len(rows) % coders
  rows, columns = (jnp.pad(a, (0, missing), constant_values=-1).reshape(-1, coders)
                   for a in (rows, columns))
  there = (columns >= 0)[:, None] & (rows[:, None] < sizes[None, :, 0, None]) & (
      columns[:, None] < sizes[None, :, 1, None])
  return jnp.maximum(rows, 0), jnp.maximum(columns, 0), there


def _put(head, rans, starts, frequencies, sizes, first, last):
  """Puts wavefronts last-1 .. first of all tiles."""
  _, height, width, c = starts.shape

  def one(i, rans):
    rows, columns, there = _schedule(
        head, (height, width), sizes, rans.states.shape[1], last - 1 - i)
    start, frequency = (a[:, rows, columns] for a in (starts, frequencies))
    steps = len(rows)

    def step(j, rans):
      channel, k = c - 1 - j // steps, steps - 1 - j % steps
      return rans_lib.put(rans, start[:, k, :, channel], frequency[:, k, :, channel], there[k])

    return jax.lax.fori_loop(0, c * steps, step, rans)

  return jax.lax.fori_loop(0, last - first, one, rans)


def _take(head, c, params, rans, images, sizes, first, last):
  """Takes wavefronts first .. last-1 of all tiles into `images`, which are surrounded."""
  b = len(images)
  size = tuple(n - 2 * head.horizon for n in images.shape[1:3])
  count = rans.states.shape[1]

  def one(number, carry):
    rans, images = carry
    rows, columns, there = _schedule(head, size, sizes, count, number)
    everywhere = lambda a: jnp.broadcast_to(a.reshape(-1), (b, a.size))
    at = everywhere(rows), everywhere(columns)
    mixture = head.apply(params, images, *at, surrounded=True, method='mixture_at')

    def know(channel):
      nonlocal rans
      # [K, B, steps, coders] -> [steps, K, B, coders]
      by_step = jax.tree.map(
          lambda a: jnp.moveaxis(a.reshape(len(a), b, *rows.shape), 2, 0), channel)

      def step(rans, this):
        channel, there = this
        flat = integer_mixture.Channel(*(a.reshape(len(a), -1) for a in channel))
        values = flat.find(rans_lib.symbol_points(rans).reshape(-1))
        start, frequency = (a.reshape(b, count) for a in flat.interval(values))
        return rans_lib.take(rans, start, frequency, there), values.reshape(b, count)

      rans, values = jax.lax.scan(step, rans, (by_step, there))
      return jnp.moveaxis(values, 0, 1).reshape(-1)  # [B steps coders]

    values = jnp.stack(integer_mixture.channels(mixture, c, know), -1).reshape(b, -1, c)
    values = jnp.broadcast_to(values, (*values.shape[:2], head.channels))
    known = jnp.moveaxis(there, 1, 0).reshape(b, -1)
    rows, columns = at
    return rans, local_pixels.put(
        images, rows, jnp.where(known, columns, -1), values, head.horizon)

  return jax.lax.fori_loop(first, last, one, (rans, images))

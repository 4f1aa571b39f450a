"""An image to bytes and back by the integer network: exact on every machine (FORMAT.md).

The pixels of a wavefront are coded at once, of all tiles side by side. The encoder knows all pixels
and evaluates the network in large calls; the decoder evaluates it wavefront by wavefront. The
programs are compiled for arrays of a few sizes, into which tiles of other sizes are padded: the
numbers are whole, so that a file does not depend on it.
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
from conv_draw.codec.tiling import part_of, valid_mask
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
    progress: called with how much of the work is done, and how much there is.
  """
  if not effort:
    return _encode(codec, tiling, image, parameter_tuning.UNCHANGED, progress)
  fitting, plain, changed = (part_of(progress, number, 3) for number in range(3))
  with fixed_numerics():
    tuned = parameter_tuning.fit(codec.head, codec.params, image, effort, fitting)
  untuned = _encode(codec, tiling, image, parameter_tuning.UNCHANGED, plain)
  try:
    return min(_encode(codec, tiling, image, tuned, changed), untuned, key=len)
  except Undecodable:  # sums that are not exact; no photograph has led to it
    return untuned


def _encode(codec, tiling, image, changes, progress):
  with fixed_numerics():
    stored = parameter_tuning.to_bytes(changes)
  params = codec.parameters(changes)
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
    changes = cursor.take(cursor.varint())
    parts = [cursor.take(cursor.varint()) for _ in range(tiling.count)]
  except framing.Cut:
    raise Undecodable('its pixels end too early') from None
  cursor.finish()
  with fixed_numerics():
    changes = parameter_tuning.from_bytes(changes, codec.params)
  params = codec.parameters(changes)
  image = np.zeros((*tiling.size, channels), np.uint8)

  def one(numbers):
    data = [parts[number] for number in numbers]
    data += [codec.empty_tile(tiling.tile_size)] * (tiling.batch - len(data))
    return codec.decode(params, data, tiling.tile_size, tiling.sizes(numbers))

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
  """An `IntegerPixels` with its parameters, for B tiles at a time of up to (H, W) each.

  Several threads may encode and decode with it at once.

  Attributes:
    head, params: `IntegerPixels` and its parameters, both rounded.
  """

  def __init__(self, head, params, size, batch, channels):
    """Codes the first `channels` of each pixel: the others, if any, are equal to the first.

    Args:
      size: (H, W), a `tiling.padded_size`.
    """
    assert head.whole and channels in (1, head.channels)
    self.size, self.batch, self._channels = size, batch, channels
    self.head = head.clone(rounded=True)
    self._coders = coders_of(size, head.horizon)
    self._compiled, self._compiling = {}, threading.Lock()
    with fixed_numerics():
      self.params = jax.jit(integer_pixels.rounded)(
          {'params': jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params['params'])})
      assert not integer_pixels.inexact(self.params)
      self._tuned = jax.jit(parameter_tuning.tuned)

  def parameters(self, changes):
    """The parameters with an image's `parameter_tuning.Changes`.

    Raises:
      UserError: changes after which sums are not exact.
    """
    if not changes.numbers:
      return self.params
    with fixed_numerics():
      numbers = {name: np.float32(value) for name, value in changes.numbers.items()}
      tuned = self._tuned(self.params, numbers)
      if integer_pixels.inexact(tuned):
        raise Undecodable(parameter_tuning.DAMAGED)
    return tuned

  def empty_tile(self, size):
    """The bytes of a tile of (h, w) without an image."""
    coders = coders_of(size, self.head.horizon)
    with fixed_numerics():
      return rans_lib.to_bytes(rans_lib.empty(1, coders, 0), coders)[0]

  def encode(self, params, images, sizes):
    """A list of B bytes.

    Args:
      params: of `parameters`.
      images: uint8 [B, h, w, channels].
      sizes: int32 [B, 2], (height, width) of the image in each tile.
    """
    with fixed_numerics():
      (b, *size, c), (height, width) = images.shape, self.size
      radius = self.head.horizon
      total, coders = local_pixels.wavefronts(size, radius)[0], coders_of(size, radius)
      images = np.pad(
          images, ((0, 0), (0, height - size[0]), (0, width - size[1]), (0, 0)))
      valid = valid_mask(self.size, sizes)
      shown = np.where(valid[..., None], images, np.int32(local_pixels.OUTSIDE))
      shown = jnp.asarray(np.broadcast_to(shown, (*shown.shape[:3], self.head.channels)))
      starts, frequencies = self._run(
          'intervals', functools.partial(_intervals, self.head, c), params, shown)
      rans = rans_lib.empty(b, self._coders, height * width * c)
      for last in range(total, 0, -WAVEFRONTS):
        rans = self._run(
            'put', functools.partial(_put, self.head), rans, starts, frequencies,
            np.int32(size), sizes, np.int32(coders), np.int32(max(last - WAVEFRONTS, 0)),
            np.int32(last), donated=0)
      return rans_lib.to_bytes(rans, coders)

  def decode(self, params, data, size, sizes):
    """Undoes `encode`, for tiles of `size`, (h, w), with 0 beyond the `sizes` of their images.

    Raises:
      UserError: damaged data.
    """
    with fixed_numerics():
      radius = self.head.horizon
      total, coders = local_pixels.wavefronts(size, radius)[0], coders_of(size, radius)
      rans = rans_lib.from_bytes(data, coders, self._coders)
      unknown = np.full((self.batch, *self.size, self.head.channels), local_pixels.OUTSIDE,
                        np.float32)
      images = jnp.where(valid_mask(self.size, sizes)[..., None], 0.0, unknown)
      images = local_pixels.surrounded(images, radius)
      for first in range(0, total, WAVEFRONTS):
        rans, images = self._run(
            'take', functools.partial(_take, self.head, self._channels), params, rans, images,
            np.int32(size), sizes, np.int32(coders), np.int32(first),
            np.int32(min(first + WAVEFRONTS, total)), donated=(1, 2))
      rans_lib.finish(rans, data, coders)
      images = images[:, radius : radius + size[0], radius : radius + size[1], : self._channels]
      return np.maximum(images, 0).astype(np.uint8)

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


def _schedule(head, size, sizes, most, number):
  """The pixels of a wavefront.

  Args:
    size, sizes: int (h, w) of the tiles, and int [B, 2] of the image in each.
    most: n, pixels on a wavefront at most.
    number: of the wavefront.
  Returns:
    int rows, columns [n], and bool [B, n], whether tiles have such a pixel.
  """
  rows, columns = local_pixels.on_wavefront(number, size, head.horizon, most)
  there = (columns >= 0)[None] & (rows[None] < sizes[:, :1]) & (columns[None] < sizes[:, 1:])
  return rows, jnp.maximum(columns, 0), there


def _steps(head, size, coders):
  """How many steps of one pixel for each of L = `coders` a wavefront takes at most; traced."""
  most = jnp.minimum(size[0], -(-size[1] // (head.horizon + 1)))
  return -(-most // coders)


def _in_step(x, step, coders, lanes):
  """The values [..., L] of the pixels of a step, among `lanes`, of [..., n + lanes] pixels."""
  return jax.lax.dynamic_slice_in_dim(x, step * coders, lanes, axis=-1)


def _with_lanes(x, lanes):
  return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, lanes)])


def _put(head, rans, starts, frequencies, size, sizes, coders, first, last):
  """Puts wavefronts last-1 .. first of all tiles."""
  _, height, width, c = starts.shape
  _, most = local_pixels.wavefronts((height, width), head.horizon)
  lanes, steps = rans.states.shape[1], _steps(head, size, coders)

  def one(i, rans):
    rows, columns, there = _schedule(head, size, sizes, most, last - 1 - i)
    start, frequency = (  # [c, B, n + lanes]
        _with_lanes(jnp.moveaxis(a[:, rows, columns], 2, 0), lanes)
        for a in (starts, frequencies))
    there = _with_lanes(there, lanes)

    def step(j, rans):
      channel, k = c - 1 - j // steps, steps - 1 - j % steps
      among = lambda a: _in_step(a, k, coders, lanes)
      return rans_lib.put(rans, among(start[channel]), among(frequency[channel]),
                          among(there) & (jnp.arange(lanes) < coders)[None])

    return jax.lax.fori_loop(0, c * steps, step, rans)

  return jax.lax.fori_loop(0, last - first, one, rans)


def _take(head, c, params, rans, images, size, sizes, coders, first, last):
  """Takes wavefronts first .. last-1 of all tiles into `images`, which are surrounded."""
  b, lanes = rans.states.shape
  _, most = local_pixels.wavefronts(
      [n - 2 * head.horizon for n in images.shape[1:3]], head.horizon)

  def one(number, carry):
    rans, images = carry
    rows, columns, there = _schedule(head, size, sizes, most, number)
    at = [jnp.broadcast_to(a, (b, most)) for a in (rows, columns)]
    mixture = head.apply(params, images, *at, surrounded=True, method='mixture_at')
    expected = _with_lanes(there, lanes)

    def know(channel):
      nonlocal rans
      all_pixels = jax.tree.map(  # [K, B, n + lanes]
          lambda a: _with_lanes(a.reshape(len(a), b, most), lanes), channel)

      def step(k, carry):
        rans, values = carry
        among = lambda a: _in_step(a, k, coders, lanes)
        flat = integer_mixture.Channel(*(among(a).reshape(len(a), -1) for a in all_pixels))
        found = flat.find(rans_lib.symbol_points(rans).reshape(-1))
        start, frequency = (a.reshape(b, lanes) for a in flat.interval(found))
        rans = rans_lib.take(rans, start, frequency,
                             among(expected) & (jnp.arange(lanes) < coders)[None])
        # The next step overwrites what the lanes beyond the coders have written.
        return rans, jax.lax.dynamic_update_slice_in_dim(
            values, found.reshape(b, lanes), k * coders, axis=1)

      values = jnp.zeros((b, most + lanes), jnp.int32)
      rans, values = jax.lax.fori_loop(0, _steps(head, size, coders), step, (rans, values))
      return values[:, :most].reshape(-1)

    values = jnp.stack(integer_mixture.channels(mixture, c, know), -1).reshape(b, most, c)
    values = jnp.broadcast_to(values, (b, most, head.channels))
    rows, columns = at
    return rans, local_pixels.put(
        images, rows, jnp.where(there, columns, -1), values, head.horizon)

  return jax.lax.fori_loop(first, last, one, (rans, images))

"""One image to bytes and back by local pixels in whole numbers, tile by tile (FORMAT.md)."""

import concurrent.futures

import numpy as np

from conv_draw.codec import adapting
from conv_draw.codec.entropy.stream import Undecodable
from conv_draw.codec.format import framing
from conv_draw.machine import startup


def encode(coder, tiling, image, effort, clock, progress=None, picture=None):
  """Codes an image losslessly.

  Args:
    coder: `whole_pixels.WholePixels` for the tiles.
    tiling: `tiles.Tiling` of the image.
    image: [H, W, C] uint8.
    effort: 0 for the model as it is; 1 or 2 to try a change to it that suits the image.
    clock: `network.Clock`.
    progress: called with how many tiles have been coded so far, and how many there are.
    picture: uint8 [H, W, C] that is seen of a canvas, if the model sees one.
  Returns:
    The bytes, and what the tables promise for them in bits.
  """
  if effort:
    with clock:
      change = coder.fit(image, effort, picture)
    ways = [_encode(coder, tiling, image, picture, *way)
            for way in ((change, clock, None), (np.zeros_like(change), clock, progress))]
    return min(ways, key=lambda way: len(way[0]))
  return _encode(coder, tiling, image, picture, np.zeros(coder.changes, int), clock, progress)


def _encode(coder, tiling, image, picture, change, clock, progress):
  stored = adapting.to_bytes(change)
  parts, total = [framing.varint(len(stored)), stored], 0.0
  params = coder.parameters(change)

  def one(numbers):
    return coder.encode(params, tiling.cut(image, numbers), _sizes(tiling, numbers),
                        _cut(tiling, picture, numbers))

  for numbers, (data, bits) in _side_by_side(tiling, one, clock, progress):
    for part in data[: len(numbers)]:
      parts += [framing.varint(len(part)), part]
    total += bits[: len(numbers)].sum()
  return b''.join(parts), total


def decode(coder, tiling, data, channels, clock, progress=None, picture=None):
  """Undoes `encode`: [H, W, C = channels] uint8.

  Raises:
    UserError: what another model wrote.
  """
  cursor = framing.Cursor(data, 'the pixels')
  try:
    change = cursor.take(cursor.varint())
    parts = [cursor.take(cursor.varint()) for _ in range(tiling.count)]
  except framing.Cut:
    raise Undecodable('its pixels end too early') from None
  cursor.finish()
  params = coder.parameters(adapting.from_bytes(change, coder.changes))
  image = np.zeros((*tiling.size, channels), np.uint8)

  def one(numbers):
    data = [parts[number] for number in numbers]
    data += [coder.nothing] * (tiling.batch - len(data))
    return coder.decode(
        params, data, _sizes(tiling, numbers), _cut(tiling, picture, numbers))

  for numbers, tiles in _side_by_side(tiling, one, clock, progress):
    tiling.paste(image, tiles, numbers)
  return image


def _side_by_side(tiling, function, clock, progress):
  """Yields (tile numbers, what `function` returns for them) of all tiles in order, by threads.

  Each keeps a core busy outside of Python.
  """
  done = 0
  with clock, concurrent.futures.ThreadPoolExecutor(startup.cores()) as threads:
    chunks = list(tiling.chunks())
    try:
      for numbers, result in zip(chunks, threads.map(function, chunks), strict=True):
        yield numbers, result
        done += len(numbers)
        if progress is not None:
          progress(done, tiling.count)
    except BaseException:  # an error, or an interrupt: what has not begun need not
      threads.shutdown(wait=False, cancel_futures=True)
      raise


def _cut(tiling, picture, numbers):
  return None if picture is None else tiling.cut(picture, numbers)


def _sizes(tiling, numbers):
  """int [batch, 2]: how much of each tile is image; nothing of those that fill the batch up."""
  sizes = np.zeros((tiling.batch, 2), np.int32)
  for row, number in enumerate(numbers):
    sizes[row] = [s.stop - s.start for s in tiling.slices(number)]
  return sizes

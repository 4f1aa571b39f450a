"""The lossless decoder again, in NumPy and whole numbers alone: no JAX, no floats but weights.

It knows nothing of the program but its tables and its container. What it decodes
is decoded by arithmetic that every machine agrees on.
"""

import numpy as np

from conv_draw.autoregressive import integer_tables as tables
from conv_draw.codec.format import framing

BITS = (10, 9, 8, 7)


def shifted(numbers, bits):
  """numbers / 2^bits, halves rounded up."""
  return (2 * numbers + (1 << bits) >> bits + 1) if bits > 0 else numbers << -bits


def rounded(numerator, denominator):
  """Halves rounded to even, of whole numbers."""
  low = numerator // denominator
  twice = 2 * (numerator - low * denominator)
  return low + ((twice > denominator) | ((twice == denominator) & (low % 2 == 1)))


def whole_layer(kernel, bias, unit):
  """(weights [I, O], bias [O], by how many bits their sums are shifted [O]): whole numbers."""
  kernel, bias = np.float64(kernel) * (unit / 32), np.float64(bias) * unit
  weights = np.zeros(kernel.shape, np.int64)
  shifts = np.zeros(len(bias), np.int64)
  for o, column in enumerate(kernel.T):
    exponent = np.frexp(abs(column).max())[1]
    for bits in BITS:
      shift = min(bits - exponent, 19)
      numbers = column * 2.0**shift
      step = 2.0 ** np.maximum(np.frexp(numbers)[1] - 8, 0)
      most = 2**bits - 2 ** (bits - 8) if bits > 8 else 2**bits - 1
      numbers = np.clip(np.round(numbers / step) * step, -most, most).astype(np.int64)
      if abs(numbers).sum() <= 15 * 2**12:
        break
    weights[:, o], shifts[o] = numbers, shift
  bias = np.clip(np.round(bias * 2.0**shifts), -(2**19), 2**19).astype(np.int64)
  return weights, bias, shifts


def layer(x, numbers):
  weights, bias, shifts = numbers
  return np.array([
      shifted(int(s), int(k)) for s, k in zip(x @ weights + bias, shifts, strict=True)])


class Network:
  """What a pixel's neighbours say of it."""

  def __init__(self, head, params):
    self.h, self.c, self.k = head.horizon, head.channels, head.mixtures
    p, names = params['params'], ['first', *(f'residual_{i}' for i in range(head.residual_layers))]
    of = lambda name, unit: whole_layer(p[f'{name}_kernel'], p[f'{name}_bias'], unit)
    self.layers, self.last = [of(name, 32) for name in names], of('last', 64)
    h = self.h
    self.places = [(y, x) for y in range(-h, 0) for x in range(-h, h + 1)] + [
        (0, x) for x in range(-h, 0)]

  def mixture(self, image, row, column):
    """Of the pixel there: weights [K], means, scales by channel [K], slopes by pair [K]."""
    height, width, _ = image.shape
    inside = np.array([0 <= row + y < height and 0 <= column + x < width and image[
        row + y, column + x, 0] >= 0 for y, x in self.places], np.int64)
    near = np.array([image[row + y, column + x] if there else np.zeros(self.c, np.int64)
                     for (y, x), there in zip(self.places, inside, strict=True)])
    at = [self.places.index(p) for k in range(1, self.h + 1) for p in ((-k, 0), (0, -k), (-1, k))]
    both = [i for i in (self.places.index((0, -1)), self.places.index((-1, 0))) if inside[i]]
    reference = sum(near[i] for i in both) // len(both) if both else np.full(self.c, 128)
    difference = (near - reference) * inside[:, None]
    mean = 16 * abs(difference).sum() // (self.c * max(inside.sum(), 1))
    spread = tables.spread_of()[mean]
    gain = int(tables.gains()[spread] * 512)
    x = np.concatenate([
        np.clip(rounded(difference * gain, 512), -255, 255).ravel(), inside[at] * 32,
        rounded(reference - 128, 4), [4 * spread - 64]])
    hidden = layer(x, self.layers[0])
    for numbers in self.layers[1:]:
      hidden = np.clip(hidden + layer(np.clip(hidden, 0, 255), numbers), -(2**12), 2**12)
    rows = layer(np.clip(hidden, 0, 255), self.last).reshape(-1, self.k)
    c, k, unit = self.c, self.k, int(tables.units()[spread])
    apart = (2 * np.arange(k) + 1 - k) * (64 // k)
    weights = tables.exponentials()[np.minimum(rows[0].max() - rows[0], 767)]
    return (normalised(weights),
            [reference[i] * 16 + (np.clip(rows[1 + i] + apart, -1024, 1024) * unit >> 6)
             for i in range(c)],
            [np.clip(rows[1 + c + i] + spread * 8 + 64, 0, 447) for i in range(c)],
            [np.clip(row + 64, -128, 128) for row in rows[1 + 2 * c :]])


def normalised(values):
  values = values.astype(np.int64)
  values >>= max(int(values.sum()).bit_length() - 19, 0)
  weights = values * 4080 // max(values.sum(), 1)
  weights[0] += 4080 - weights.sum()
  return weights


def below(edge, mean, scale):
  """The mass below a value, of each component, in 2^-18."""
  if not 0 < edge < 256:
    return np.full(len(mean), 2**18 * (edge > 0))
  a = (edge * 16 - 8 - mean) * tables.widths()[scale].astype(np.int64)
  a = np.clip(a, -(12 << 16), 12 << 16) + (12 << 16)
  both = tables.logistic()[a >> 11].astype(np.int64)
  return (both >> 12) + ((both & 4095) * (a & 2047) >> 11)


def decode_tile(network, data, size, shape, coders):
  """A tile's bytes: [H, W, C] whole numbers of those `shape` of its (H, W) = `size` that it has."""
  states = np.frombuffer(data, '<u4', coders).astype(np.int64)
  words = iter(np.frombuffer(data, '<u2', offset=4 * coders).tolist())
  image = np.full((*shape, network.c), -1, np.int64)
  step = network.h + 1
  most = min(size[0], -(-size[1] // step))
  for number in range(size[1] + step * (size[0] - 1)):
    first = max(-((size[1] - 1 - number) // step), 0)
    there = [
        (i % coders, row, number - step * row) for i, row in enumerate(range(first, first + most))
        if row < shape[0] and 0 <= number - step * row < shape[1]]
    known = [(lane, row, column, *network.mixture(image, row, column), [])
             for lane, row, column in there]
    for channel in range(network.c):
      for i, (lane, row, column, weights, means, scales, slopes, values) in enumerate(known):
        mean, scale = means[channel].copy(), scales[channel]
        for e, value in enumerate(values):
          mean += slopes[channel * (channel - 1) // 2 + e] * (value * 16 - means[e]) >> 6
        mean = np.clip(mean, -(2**15), 2**15)
        start = lambda v: ((weights * below(v, mean, scale)).sum() >> 14) + v  # noqa: B023
        place, value = int(states[lane]) & 0xFFFF, 0
        for bit in (128, 64, 32, 16, 8, 4, 2, 1):
          value += bit * (start(value + bit) <= place)
        low, high = int(start(value)), int(start(value + 1))
        states[lane] = (high - low) * (states[lane] >> 16) + place - low
        if states[lane] < 2**16:
          states[lane] = states[lane] << 16 | next(words)
        mass = below(value + 1, mean, scale) - below(value, mean, scale)
        known[i] = (lane, row, column, normalised(weights * (mass + 4)), means, scales, slopes,
                    [*values, value])
    for _, row, column, *_, values in known:
      image[row, column] = values
  assert (states == 2**16).all() and next(words, None) is None
  return image


class Stream:
  """A single rANS coder."""

  def __init__(self, data):
    self.state = int.from_bytes(data[:4], 'little')
    self.words = iter(np.frombuffer(data, '<u2', offset=4).tolist())

  def take(self, starts):
    """The value whose interval comes next, given where those of all values begin."""
    place = self.state & 0xFFFF
    value = int(np.searchsorted(starts, place, 'right')) - 1
    self.state = int(starts[value + 1] - starts[value]) * (self.state >> 16) + place - int(
        starts[value])
    if self.state < 2**16:
      self.state = self.state << 16 | next(self.words)
    return value


def changed(params, data):
  """The parameters with the changes that an image's file stores."""
  if not data:
    return params
  kind, rank = data[:2]
  assert kind == 8
  layers, groups = dict(params['params']), []
  for name in sorted(name for name in layers if name.endswith('_kernel')):
    layer = name[: -len('_kernel')]
    unit = 64 if layer == 'last' else 32
    weights, bias, shifts = whole_layer(layers[name], layers[f'{layer}_bias'], unit)
    layers[name] = np.float32(weights * 2.0**-shifts * (32 / unit))
    layers[f'{layer}_bias'] = np.float32(bias * 2.0**-shifts / unit)
    inputs, outputs = layers[f'{layer}_kernel'].shape
    groups += [(layer, 'bias', outputs), (layer, 'in', inputs)]
    groups += [(layer, 'left', inputs)] * rank + [(layer, 'out', outputs)]
    groups += [(layer, 'right', outputs)] * rank
  stream, found = Stream(data[2 + len(groups) :]), {}
  for (layer, kind, size), scale in zip(groups, data[2:], strict=False):
    starts = [(4080 * int(below(v, np.array([128 * 16]), 2 * scale)[0]) >> 14) + v
              for v in range(257)]
    found.setdefault((layer, kind), []).append([stream.take(starts) - 128 for _ in range(size)])
  assert stream.state == 2**16 and next(stream.words, None) is None
  for (layer, kind), numbers in found.items():
    if kind == 'bias':
      layers[f'{layer}_bias'] = layers[f'{layer}_bias'] + np.float32(numbers[0]) / 128
    elif kind == 'in':
      of = lambda kind, layer=layer: np.array(found.get((layer, kind), [[0]]))
      gains = (32 + of('in')[0])[:, None] * (32 + of('out')[0])
      sum_ = of('left').T @ of('right') / 1024
      kernel = layers[f'{layer}_kernel'] * np.float32(gains) / np.float32(1024)
      layers[f'{layer}_kernel'] = kernel + np.float32(sum_)
  return {'params': layers}


def decode(head, params, payload, size, tile_size, coders):
  """The payload of an image's segment of pixels: uint8 [H, W, C]."""
  cursor, image = framing.Cursor(payload, 'it'), np.zeros((*size, head.channels), np.uint8)
  network = Network(head, changed(params, cursor.take(cursor.varint())))
  for top in range(0, size[0], tile_size[0]):
    for left in range(0, size[1], tile_size[1]):
      shape = min(tile_size[0], size[0] - top), min(tile_size[1], size[1] - left)
      tile = decode_tile(network, cursor.take(cursor.varint()), tile_size, shape, coders)
      image[top : top + shape[0], left : left + shape[1]] = tile
  cursor.finish()
  return image

"""Per-image parameter tuning: changes of an integer network's parameters that suit one image.

In every layer, a kernel K [I, O] becomes diag(1 + a) K diag(1 + b) + U V, with U [I, r], V [r, O],
and c is added to the bias. The numbers are small integers, in units that `UNITS` has; they are
fitted to the image by gradients through the rounding, and stored before the pixels. Every operation
is exact in float32 but the sum of the two kernels, which is rounded once: all machines agree on the
result.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.autoregressive import integer_mixture, integer_pixels, integer_tables, local_pixels
from conv_draw.codec import tiling
from conv_draw.codec.entropy import interleaved_rans as rans_lib
from conv_draw.codec.entropy.range_coder import Undecodable
from conv_draw.model import straight_through

UNITS = {'bias': 128, 'in': 32, 'out': 32, 'left': 32, 'right': 32}  # c, a, b, U, V: 1 / these
LARGEST = 127  # of a number's sizes
MAX_RANK = 8
UPDATES = (0, 150, 1200)  # of fitting, by effort
PIXELS = 2048  # in an update
LEARNING_RATES = {'bias': 2.0, 'in': 0.64, 'out': 0.64, 'left': 0.64, 'right': 0.64}
INITIAL = 4.0  # standard deviation of U, without which U V has no gradient

# A group of numbers has a logistic distribution, one of `SCALES`: indices of `integer_tables`.
SCALES = range(0, integer_tables.SCALES, 2)
OFFSET = 128  # numbers are coded as the values 0..255
RICE, LOGISTIC = range(8), 8  # the first byte of the numbers
DAMAGED = 'its changes of parameters are damaged'


class Changes(NamedTuple):
  """The changes of a network's parameters."""

  rank: int
  numbers: dict[str, Any]  # int arrays by `LAYER_KIND`; none, and rank 0: no change


UNCHANGED = Changes(0, {})


def shapes(params: dict, rank: int) -> dict[str, tuple[int, ...]]:
  """The shapes of all numbers by name, in alphabetical order, that of a file."""
  found = {}
  for name, kernel in sorted(params['params'].items()):
    layer, _, kind = name.rpartition('_')
    if kind == 'kernel':
      inputs, outputs = kernel.shape
      found |= {f'{layer}_bias': (outputs,), f'{layer}_in': (inputs,), f'{layer}_out': (outputs,)}
      if rank:
        found |= {f'{layer}_left': (inputs, rank), f'{layer}_right': (rank, outputs)}
  return dict(sorted(found.items()))


def tuned(params: dict, numbers: dict) -> dict:
  """`integer_pixels.rounded` parameters, changed by the numbers of `Changes`, and rounded."""
  layers = dict(params['params'])
  unit = UNITS['left'] * UNITS['right']
  for layer in sorted({name.rpartition('_')[0] for name in numbers}):
    of = lambda kind, layer=layer: numbers.get(f'{layer}_{kind}')
    gains = (UNITS['in'] + of('in'))[:, None] * (UNITS['out'] + of('out'))[None]
    kernel = layers[f'{layer}_kernel'] * gains / (UNITS['in'] * UNITS['out'])
    if of('left') is not None:
      kernel += jnp.matmul(of('left'), of('right'), precision='highest') / unit
    layers[f'{layer}_kernel'] = kernel
    layers[f'{layer}_bias'] = layers[f'{layer}_bias'] + of('bias') / UNITS['bias']
  return integer_pixels.rounded({'params': layers})


def rank_for(size: int) -> int:
  """r for an image of so many subpixels: U V takes 830 bytes for each."""
  return min(MAX_RANK, round(size / 400_000))


def fit(head, params, image, effort, progress=None):
  """`Changes` with which an image takes fewer bits.

  Args:
    head: `IntegerPixels` of `rounded` parameters.
    image: uint8 [H, W, C].
    effort: index of `UPDATES`.
    progress: called with how many updates have been made, and how many there are.
  """
  import optax  # which decoding does not need
  rank, key = rank_for(image.size), jax.random.key(0)
  numbers = {}
  for i, (name, shape) in enumerate(shapes(params, rank).items()):
    drawn = INITIAL * jax.random.normal(jax.random.fold_in(key, i), shape)
    numbers[name] = drawn if name.endswith('_left') else jnp.zeros(shape)
  state = optax.scale_by_adam().init(numbers)
  shown = _shown(image, head.channels)
  for number in range(UPDATES[effort]):
    rate = (1 + math.cos(math.pi * number / UPDATES[effort])) / 2
    numbers, state = _update(
        head, image.shape[2], params, shown, image.shape[:2], numbers, state, number, rate)
    if progress is not None:
      jax.block_until_ready(numbers)  # which are computed meanwhile
      progress(number + 1, UPDATES[effort])
  return Changes(rank, {
      name: np.asarray(_whole(value), np.int64) for name, value in numbers.items()})


def _shown(image, channels):
  """[1, H', W', C], OUTSIDE beyond the image: compiled for few sizes."""
  height, width = image.shape[:2]
  sides = [(0, padded - n) for n, padded in zip(
      (height, width), tiling.padded_size((height, width)), strict=True)]
  shown = np.pad(image.astype(np.int32), (*sides, (0, 0)), constant_values=local_pixels.OUTSIDE)
  return jnp.asarray(np.broadcast_to(shown, (*shown.shape[:2], channels)))[None]


def _whole(numbers):
  return jnp.clip(straight_through.nearest(numbers), -LARGEST, LARGEST)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(5, 6))
def _update(head, channels, params, shown, size, numbers, state, number, rate):
  import optax
  rows, columns = (
      jax.random.randint(key, (1, PIXELS), 0, n)
      for key, n in zip(jax.random.split(jax.random.key(number)), size, strict=True))

  def cost(numbers):
    found = head.apply(tuned(params, jax.tree.map(_whole, numbers)), shown, rows, columns,
                       method='cost_at')
    nats = found[..., :channels].mean()
    return nats + _nats(numbers) / (size[0] * size[1] * channels)

  gradient = jax.grad(cost)(numbers)
  with jax.numpy_dtype_promotion('standard'):  # Optax raises floats to the power of a count
    update, state = optax.scale_by_adam().update(gradient, state)
  return {name: value - rate * LEARNING_RATES[name.rpartition('_')[2]] * update[name]
          for name, value in numbers.items()}, state


def _groups(name, value):
  """The groups of numbers with a scale each, [G, n]; undoes itself for matrices."""
  return value.T if name.endswith('_left') else value.reshape(-1, value.shape[-1])


def _nats(numbers):
  """About what it takes to store the numbers, which are floats here."""
  groups = [_groups(name, value) for name, value in numbers.items()]
  return sum((g.shape[1] * jnp.log1p(2 * abs(g).mean(1))).sum() for g in groups)


@functools.cache
def _starts():
  """int [S, 257]: where the intervals of the values begin, by scale."""
  scale = np.repeat(np.array(SCALES, np.int32), 257)[None]
  channel = (np.full_like(scale, integer_tables.WEIGHTS),
             np.full_like(scale, OFFSET * integer_tables.SUBPIXEL), scale)
  edges = np.tile(np.arange(257, dtype=np.int32), len(SCALES))
  return np.asarray(jax.jit(integer_mixture.start)(edges, *channel)).reshape(-1, 257)


def to_bytes(changes):
  """The stored numbers; no bytes of `UNCHANGED`."""
  if not changes.numbers:
    return b''
  starts = _starts()
  bits = -np.log2(np.diff(starts) / integer_tables.TOTAL)
  scales, values = [], []
  for name, numbers in changes.numbers.items():
    for group in _groups(name, numbers) + OFFSET:
      scales.append(bits[:, group].sum(1).argmin())
      values.append(group)
  table = np.repeat(np.stack([starts[s] for s in scales]), [len(v) for v in values], axis=0)
  values = np.concatenate(values)
  at = lambda values: jnp.asarray(np.take_along_axis(table, values[:, None], 1)[:, 0], jnp.int32)
  start = at(values)
  rans = _put_all(start, at(values + 1) - start)
  return bytes([LOGISTIC, changes.rank, *scales]) + rans_lib.to_bytes(rans, 1)[0]


@jax.jit
def _put_all(starts, frequencies):
  most, there = len(starts), jnp.ones((1, 1), bool)

  def one(i, rans):
    k = most - 1 - i
    return rans_lib.put(rans, starts[k][None, None], frequencies[k][None, None], there)

  return jax.lax.fori_loop(0, most, one, rans_lib.empty(1, 1, most))


def from_bytes(data, params):
  """Undoes `to_bytes`: `Changes`. Raises UserError for damaged data."""
  if not data:
    return UNCHANGED
  if data[0] in RICE:
    return _from_rice(data, params)
  if data[0] != LOGISTIC or len(data) < 2 or data[1] > MAX_RANK:
    raise Undecodable(DAMAGED)
  rank = data[1]
  groups = {name: _groups(name, np.zeros(shape, int)).shape
            for name, shape in shapes(params, rank).items()}
  end = 2 + sum(count for count, _ in groups.values())
  scales = np.frombuffer(data[2:end], np.uint8)
  if len(data) < end or scales.max() >= len(SCALES):
    raise Undecodable(DAMAGED)
  rans = rans_lib.from_bytes([data[end:]], 1, 1)
  sizes = [size for count, size in groups.values() for _ in range(count)]
  rans, values = _take_all(rans, _starts(), np.repeat(scales, sizes))
  rans_lib.finish(rans, [data[end:]], 1)
  ends = np.cumsum([count * size for count, size in groups.values()])
  found = np.split(np.asarray(values, np.int64) - OFFSET, ends[:-1])
  return Changes(rank, {
      name: _groups(name, part.reshape(groups[name])).reshape(shape)
      for (name, shape), part in zip(shapes(params, rank).items(), found, strict=True)})


@jax.jit
def _take_all(rans, starts, scales):
  """(`Rans`, values int32 [n]) of n numbers with such scales."""
  there = jnp.ones((1, 1), bool)

  def one(k, carry):
    rans, values = carry
    row = starts[scales[k]]
    value = (row <= rans_lib.symbol_points(rans)[0]).sum(dtype=jnp.int32) - 1
    start, end = row[value][None, None], row[value + 1][None, None]
    return rans_lib.take(rans, start, end - start, there), values.at[k].set(value)

  return jax.lax.fori_loop(0, len(scales), one, (rans, jnp.zeros(len(scales), jnp.int32)))


def _from_rice(data, params):
  """`Changes` of biases alone, of earlier versions: Rice's code after a byte of its parameter."""
  low, count = data[0], sum(
      shape[0] for name, shape in shapes(params, 0).items() if name.endswith('_bias'))
  if 8 * len(data) > count * (2 * LARGEST + 1 + low) + 16:  # before it is unpacked
    raise Undecodable(DAMAGED)
  bits, at = np.unpackbits(np.frombuffer(data, np.uint8, offset=1)).tolist(), 0

  def folded():
    nonlocal at
    ones = bits.index(0, at) - at
    at += ones + 1 + low
    if at > len(bits):
      raise ValueError
    return ones << low | int('0' + ''.join(map(str, bits[at - low : at])), 2)

  numbers = {}
  try:
    for name, shape in shapes(params, 0).items():
      count = shape[0] if name.endswith('_bias') else 0
      values = np.array([folded() for _ in range(count)], np.int64)
      numbers[name] = np.where(values % 2, -(values + 1) // 2, values // 2) if count else (
          np.zeros(shape, np.int64))
  except ValueError:
    raise Undecodable(DAMAGED) from None
  if len(bits) - at >= 8 or any(bits[at:]) or max(
      abs(value).max() for value in numbers.values()) > LARGEST:
    raise Undecodable(DAMAGED)
  return Changes(0, numbers)

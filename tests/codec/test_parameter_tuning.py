import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.autoregressive import integer_pixels
from conv_draw.codec import lossless, parameter_tuning, tiling
from conv_draw.codec.coder import Coder
from conv_draw.codec.parameter_tuning import Changes
from conv_draw.errors import UserError
from conv_draw.workdir import published
from tests.autoregressive.test_integer_pixels import COLOUR, params_of
from tests.codec import numpy_decoder
from tests.codec.test_exact_everywhere import SIZE, coder, image


def changes(rank, scale, seed=0):
  rng = np.random.default_rng(seed)
  return Changes(rank, {
      name: np.clip(np.rint(rng.laplace(0, scale, shape)), -127, 127).astype(int)
      for name, shape in parameter_tuning.shapes(params(), rank).items()})


@functools.cache
def params():
  return jax.jit(integer_pixels.rounded)(params_of(COLOUR))


def tuned(of):
  return jax.jit(parameter_tuning.tuned)(
      params(), {name: np.float32(value) for name, value in of.numbers.items()})


def same(a, b):
  assert a.rank == b.rank
  jax.tree.map(np.testing.assert_array_equal, a.numbers, b.numbers)


@pytest.mark.parametrize('rank', [0, 1, 3])
def test_stored_changes_come_back(rank):
  for scale in (0, 0.3, 2, 20, 500):
    made = changes(rank, scale)
    data = parameter_tuning.to_bytes(made)
    same(parameter_tuning.from_bytes(data, params()), made)
    count = sum(value.size for value in made.numbers.values())
    groups = sum(len(parameter_tuning._groups(name, value))
                 for name, value in made.numbers.items())
    assert len(data) <= 8 + groups + count * (1.7 + np.log2(1 + 2 * scale)) / 8
    for bad in (data[:-1], data[:-2], data + b'\0', data + b'\0\0', data[:1], data[:5],
                bytes([9]) + data[1:], bytes([8, 200]) + data[2:], data[:2] + b'\xff' + data[3:]):
      with pytest.raises(UserError):
        parameter_tuning.from_bytes(bad, params())
  assert parameter_tuning.to_bytes(parameter_tuning.UNCHANGED) == b''
  same(parameter_tuning.from_bytes(b'', params()), parameter_tuning.UNCHANGED)


def test_damaged_data_are_changes_or_an_error():
  for seed in range(60):
    rng = np.random.default_rng(seed)
    data = bytes([rng.integers(0, 9)]) + rng.bytes(60)
    try:
      found = parameter_tuning.from_bytes(data, params())
    except UserError:
      continue
    assert set(found.numbers) == set(parameter_tuning.shapes(params(), found.rank))


def test_rices_code_of_earlier_versions_is_read():
  names = [n for n in parameter_tuning.shapes(params(), 0) if n.endswith('_bias')]
  sizes = [parameter_tuning.shapes(params(), 0)[n][0] for n in names]
  offsets = np.random.default_rng(0).integers(-9, 10, sum(sizes))
  low = 2
  folded = np.where(offsets < 0, -2 * offsets - 1, 2 * offsets).tolist()
  bits = ''.join('1' * (n >> low) + '0' + f'{n & 3:02b}' for n in folded)
  data = bytes([low]) + np.packbits([int(bit) for bit in bits]).tobytes()
  found = parameter_tuning.from_bytes(data, params())
  np.testing.assert_array_equal(np.concatenate([found.numbers[n] for n in names]), offsets)
  assert not any(value.any() for name, value in found.numbers.items() if name not in names)
  for bad in (data[:-1], data + b'\0', bytes([7]) + data[1:]):
    with pytest.raises(UserError):
      parameter_tuning.from_bytes(bad, params())


def test_no_change_changes_nothing():
  jax.tree.map(
      np.testing.assert_array_equal, tuned(changes(2, 0)), params())


@pytest.mark.parametrize('scale', [1, 30, 500])
def test_changed_parameters_are_exact_and_those_of_the_numpy_decoder(scale):
  made = changes(3, scale)
  found = tuned(made)
  assert scale > 100 or not integer_pixels.inexact(found)
  data = parameter_tuning.to_bytes(made)
  again = numpy_decoder.changed(jax.tree.map(np.asarray, params_of(COLOUR)), data)
  a, b = (numpy_decoder.Network(COLOUR, p) for p in (jax.tree.map(np.asarray, found), again))
  for one, other in zip([*a.layers, a.last], [*b.layers, b.last], strict=True):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_rate_of_the_numbers_counts_in_small_images():
  """Gains that cost more bytes than they save are not made."""
  rows = jnp.zeros((2, 5))
  assert parameter_tuning._nats({'first_left': rows}) == 0
  assert 0 < parameter_tuning._nats({'first_left': rows.at[0, 0].set(1)}) < (
      parameter_tuning._nats({'first_left': rows + 1}))
  assert parameter_tuning.rank_for(64 * 64 * 3) == 0 < parameter_tuning.rank_for(768 * 512 * 3) < (
      parameter_tuning.rank_for(4000 * 3000 * 3))


def test_a_model_that_is_fitted_to_an_image_takes_fewer_bytes():
  tiled = np.tile(image(), (4, 4, 1))
  plain, fitted = (coder().encode(tiled, lossless=True, effort=effort) for effort in (0, 1))
  assert len(fitted.data) < 0.97 * len(plain.data)
  np.testing.assert_array_equal(coder().decode(fitted.data)[0], tiled)


def test_numpy_decodes_a_file_that_is_tuned(monkeypatch):
  monkeypatch.setattr(parameter_tuning, 'rank_for', lambda size: 2)
  monkeypatch.setattr(parameter_tuning, 'UPDATES', (0, 4))
  monkeypatch.setattr(parameter_tuning, '_nats', lambda numbers: 0.0)
  codec = coder()._tile_codec((16, 24), 1, 3)
  changed = parameter_tuning.fit(codec.head, codec.params, image(), 1)
  payload = lossless._encode(codec, tiling.tiling(SIZE, 0), image(), changed, None)
  assert payload[2] == parameter_tuning.LOGISTIC
  decoded = numpy_decoder.decode(
      COLOUR, jax.tree.map(np.asarray, params_of(COLOUR)), payload, SIZE, SIZE, 1)
  np.testing.assert_array_equal(decoded, image())


def test_changes_after_which_sums_are_not_exact_are_refused():
  codec = Coder.load(published.path('photos_lossless'))._tile_codec((8, 8), 1, 3)
  shapes = parameter_tuning.shapes(codec.params, 8)
  most = {name: np.full(shape, 127) for name, shape in shapes.items()}
  with pytest.raises(UserError, match='changes of parameters are damaged'):
    codec.parameters(Changes(8, most))


def test_much_data_in_rices_code_is_refused_before_it_is_unpacked():
  data = b'\0' * 10**6
  tracemalloc.start()
  with pytest.raises(UserError):
    parameter_tuning.from_bytes(data, params())
  assert tracemalloc.get_traced_memory()[1] < 10**6
  tracemalloc.stop()

"""Streams: what is written is read, elsewhere too, at the cost that theory says."""

import math

import numpy as np
import pytest

from conv_draw.codec.entropy import parameter_grid as grid
from conv_draw.codec.entropy import range_coder
from conv_draw.codec.entropy.lifo_ans import AnsStack
from conv_draw.codec.entropy.parameter_grid import Tolerance
from conv_draw.codec.entropy.range_coder import Reader, Writer
from conv_draw.errors import UserError
from tests.codec.entropy import gaussians
from tests.codec.entropy.gaussians import SCALES, all_scales, at_boundaries, elsewhere, sample


def total_bits(log_masses):
  return -log_masses.sum() / math.log(2)


def encode_integers(symbols, mean, scale, tolerance=range_coder.TOLERANCE):
  writer = Writer()
  writer.put_integers(symbols, mean, scale, tolerance)
  return writer.to_bytes()


def decode_integers(data, mean, scale):
  reader = Reader(data)
  symbols = reader.take_integers(mean, scale)
  reader.finish()
  return symbols


def encode_pixels(values, mean, scale, grey_levels=256, tolerance=range_coder.TOLERANCE):
  writer = Writer()
  writer.put_pixels(values, mean, scale, grey_levels, tolerance)
  return writer.to_bytes()


def decode_pixels(data, mean, scale, grey_levels=256):
  reader = Reader(data)
  values = reader.take_pixels(mean, scale, grey_levels)
  reader.finish()
  return values


def encode_bits(values, logits, tolerance=range_coder.TOLERANCE):
  writer = Writer()
  writer.put_bits(values, logits, tolerance)
  return writer.to_bytes()


def decode_bits(data, logits):
  reader = Reader(data)
  values = reader.take_bits(logits)
  reader.finish()
  return values


# Integers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('n', [1, 2, 7, 1000])
def test_integers_round_trip(n, scale):
  symbols, mean, scale = sample(n, scale, seed=n)
  data = encode_integers(symbols.astype(np.int32), mean, scale)
  np.testing.assert_array_equal(decode_integers(data, mean, scale), symbols)


@pytest.mark.parametrize('scale', SCALES)
def test_payload_is_what_the_rounded_gaussians_say(scale):
  symbols, mean, scale = sample(50_000, scale)
  data = encode_integers(symbols, mean, scale, tolerance=0)
  np.testing.assert_array_equal(decode_integers(data, mean, scale), symbols)
  bits = gaussians.code_length_bits(symbols, mean, scale)
  assert abs(8 * len(data) - bits) < 0.001 * bits + 64


def test_float32_parameters_are_taken_as_they_are():
  symbols, mean, scale = (x.astype(t) for x, t in zip(all_scales(100), 'iff', strict=True))
  data = encode_integers(symbols, mean, scale)
  wide = mean.astype(np.float64), scale.astype(np.float64)
  assert data == encode_integers(symbols, *wide)
  np.testing.assert_array_equal(decode_integers(data, *wide), symbols)


@pytest.mark.parametrize('tolerance', [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
def test_integers_round_trip_elsewhere(tolerance):
  for seed in range(6):
    symbols, mean, scale = all_scales(500, seed)
    data = encode_integers(symbols, mean, scale, tolerance)
    for other in range(3):
      there = elsewhere(mean, scale, tolerance, other)
      np.testing.assert_array_equal(decode_integers(data, *there), symbols)


@pytest.mark.parametrize('tolerance', [0, 1e-15, 1e-9, 1e-6, 1e-3])
def test_integers_round_trip_elsewhere_at_boundaries(tolerance):
  for seed in range(10):
    mean, scale = at_boundaries(3000, seed)
    symbols = np.rint(np.random.default_rng(seed).normal(mean, scale)).astype(np.int64)
    data = encode_integers(symbols, mean, scale, tolerance)
    for other in range(3):
      there = elsewhere(mean, scale, tolerance, other) if tolerance else (mean, scale)
      np.testing.assert_array_equal(decode_integers(data, *there), symbols)


def test_without_corrections_other_floats_break_the_stream():
  symbols, mean, scale = sample(3000, 3.0)
  data = encode_integers(symbols, mean, scale, tolerance=0)
  with pytest.raises(UserError, match='damaged'):
    decode_integers(data, *elsewhere(mean, scale, 1e-3))


def test_errors_of_many_steps_are_corrected_too():
  rng = np.random.default_rng(0)
  mean, scale = rng.uniform(-1e4, 1e4, 2000), np.full(2000, 0.01)
  symbols = np.rint(mean).astype(np.int64)
  for error, octaves in ((0.01, 0.0), (0.3, 0.2), (1e6, 1.0)):
    data = encode_integers(symbols, mean, scale, Tolerance(error, octaves))
    each = Tolerance(np.full(2000, error), octaves)
    assert data == encode_integers(symbols, mean, scale, each)
    noise = rng.uniform(-1, 1, (2, 2000))
    there = mean + error * noise[0], scale * 2 ** (octaves * noise[1])
    np.testing.assert_array_equal(decode_integers(data, *there), symbols)


@pytest.mark.parametrize('tolerance', [1e-5, 1e-4])
def test_corrections_cost_little_more_than_their_surprise(tolerance):
  symbols, mean, scale = sample(50_000, 5.0)
  absolute = Tolerance(tolerance * scale, tolerance)
  step = grid.STEPS[gaussians.round_gaussians(mean, scale).j - grid.FINEST]
  p = (2 * tolerance * scale / step + 2 * 8 * tolerance).mean()
  bits = 8 * (len(encode_integers(symbols, mean, scale, absolute))
              - len(encode_integers(symbols, mean, scale, 0)))
  # Of half of them each, scales and means: log2(2 / p) + 1.44 for where, and 1 for which. Counts.
  assert bits < 1.1 * 50_000 * p * (math.log2(1 / p) + 3.44) + 48


def test_latents_that_carry_nothing_cost_nothing():
  rng = np.random.default_rng(0)
  symbols = rng.integers(-2, 3, 100_000)
  mean = symbols + rng.uniform(-0.2, 0.2, 100_000)
  scale = np.exp(rng.uniform(math.log(1e-4), math.log(0.05), 100_000))
  data = encode_integers(symbols, mean, scale)
  assert len(data) <= 4  # 0.3 bits, and 2 bytes of every stream
  there = elsewhere(mean, scale, 1e-5)
  np.testing.assert_array_equal(decode_integers(data, *there), symbols)


def test_escapes():
  rng = np.random.default_rng(0)
  _, mean, scale = all_scales(100)
  far = np.rint(mean + rng.choice([-1, 1], 1000) * 2.0 ** rng.uniform(0, 30, 1000)).astype(np.int64)
  far[:5] = [gaussians.SYMBOL_LIMIT, -gaussians.SYMBOL_LIMIT, 16, -16, 17]
  data = encode_integers(far, mean, scale)
  np.testing.assert_array_equal(decode_integers(data, mean, scale), far)
  assert 8 * len(data) < 1000 * (24 + 2 * 31 + 1)
  reach = np.array([-17, -16, -15, 15, 16, 17])  # around where escapes begin
  data = encode_integers(reach, np.zeros(6), np.full(6, 0.1))
  np.testing.assert_array_equal(decode_integers(data, np.zeros(6), np.full(6, 0.1)), reach)


def test_nothing_takes_no_bytes():
  none = np.zeros(0)
  assert encode_integers(none.astype(int), none, none) == b''
  assert encode_pixels(none.astype(np.uint8), none, none) == b''
  assert encode_bits(none.astype(np.uint8), none) == b''
  for values in (decode_integers(b'', none, none), decode_pixels(b'', none, none),
                 decode_bits(b'', none)):
    assert values.shape == (0,) and values.dtype.kind in 'iu'
  with pytest.raises(UserError):
    decode_integers(b'x', none, none)
  assert gaussians.code_length_bits(none.astype(int), none, none) == 0



# Pixels and bits ----------------------------------------------------------------------------------


@pytest.mark.parametrize('grey_levels', [2, 17, 256, 1000])
@pytest.mark.parametrize('scale', [1e-3, 0.1, 1.0, 20.0, 1e3])
def test_pixels(grey_levels, scale):
  rng = np.random.default_rng(0)
  mean = rng.uniform(-0.3, 1.3, 20_000) * grey_levels
  scale = scale * 2 ** rng.uniform(-0.5, 0.5, 20_000)
  values = np.clip(np.rint(rng.normal(mean, scale)), 0, grey_levels - 1).astype(np.int64)
  exact = encode_pixels(values, mean, scale, grey_levels, tolerance=0)
  bits = gaussians.pixel_code_length_bits(values, mean, scale, grey_levels)
  assert abs(8 * len(exact) - bits) < 0.001 * bits + 64
  data = encode_pixels(values, mean, scale, grey_levels, 1e-5)
  for seed in range(3):
    there = elsewhere(mean, scale, 1e-5, seed)
    decoded = decode_pixels(data, *there, grey_levels)
    np.testing.assert_array_equal(decoded, values)
    assert decoded.dtype == (np.uint8 if grey_levels <= 256 else np.uint16)


def test_pixels_masses_sum_to_one():
  values = np.arange(256)
  for mean, scale in ((3.2, 5.0), (-20.0, 9.0), (254.9, 0.3), (900.0, 2.0)):
    bits = [gaussians.pixel_code_length_bits([v], [mean], [scale]) for v in values]
    assert np.exp2(-np.array(bits)).sum() == pytest.approx(1, abs=1e-9)


def test_pixels_masses_are_those_of_the_coder():
  words = np.arange(1, 9, dtype=np.uint32)
  for value, mean, scale in ((0, -3.0, 2.0), (0, 3.0, 2.0), (255, 260.0, 16.0), (17, 18.25, 1.0)):
    stack = AnsStack(words)
    before, many = stack.bits(), np.full(4000, value)
    stack.put_pixels(many, np.full(4000, mean), np.full(4000, scale))
    bits = gaussians.pixel_code_length_bits(many, np.full(4000, mean), np.full(4000, scale))
    assert stack.bits() - before == pytest.approx(bits, rel=1e-3, abs=2)


def test_bits():
  rng = np.random.default_rng(0)
  logits = np.concatenate(
      [rng.normal(0, 6, 20_000), grid.LOGIT_EDGES, grid.LOGITS, [99.0, -99.0]])
  values = (rng.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
  exact = encode_bits(values, logits, tolerance=0)
  bits = gaussians.bit_code_length_bits(values, logits)
  assert abs(8 * len(exact) - bits) < 0.001 * bits + 64
  true_bits = total_bits(-np.logaddexp(0, np.where(values == 1, -logits, logits)))
  assert abs(bits - true_bits) < 0.01 * true_bits
  for tolerance in (1e-6, 1e-4, Tolerance(0.7)):
    data = encode_bits(values, logits, tolerance)
    error = 0.7 if isinstance(tolerance, Tolerance) else tolerance * (1 + abs(logits))
    for _ in range(3):
      there = logits + error * rng.choice([-1, 1, 0.3], len(logits))
      decoded = decode_bits(data, there)
      np.testing.assert_array_equal(decoded, values)
      assert decoded.dtype == np.uint8



# Streams ------------------------------------------------------------------------------------------


def test_many_calls_share_a_stream():
  rng = np.random.default_rng(0)
  writer = Writer()
  sizes = [0, 1, 5, 300, 0, 40] * 5
  for seed, n in enumerate(sizes):
    symbols, mean, scale = sample(n, 2.0, seed)
    writer.put_integers(symbols, mean, scale, 1e-4)
    assert writer.to_bytes() == writer.to_bytes()  # which ends nothing
    writer.put_pixels(abs(symbols) % 256, mean, scale, 256, 1e-4)
    writer.put_bits(symbols % 2, mean, 1e-4)
  reader = Reader(writer.to_bytes())
  for seed, n in enumerate(sizes):
    symbols, mean, scale = sample(n, 2.0, seed)
    mean = mean * (1 + 1e-4 * rng.uniform(-1, 1, n))
    np.testing.assert_array_equal(reader.take_integers(mean, scale), symbols)
    np.testing.assert_array_equal(reader.take_pixels(mean, scale, 256), abs(symbols) % 256)
    np.testing.assert_array_equal(reader.take_bits(mean), symbols % 2)
  reader.finish()


def test_a_stream_costs_about_two_bytes():
  _, mean, scale = sample(200, 1e-4)
  symbols = np.rint(mean).astype(np.int64)
  mean = symbols.astype(np.float64)
  assert len(encode_integers(symbols, mean, scale)) <= 2
  excess = []
  for seed in range(200):
    symbols, mean, scale = sample(30, 1.0, seed)
    data = encode_integers(symbols, mean, scale, tolerance=0)
    np.testing.assert_array_equal(decode_integers(data, mean, scale), symbols)
    excess.append(8 * len(data) - gaussians.code_length_bits(symbols, mean, scale))
  assert max(excess) < 24 and np.mean(excess) < 16


def test_the_format_does_not_change():
  """If this fails, files of before cannot be read: constriction, or the tables, have changed."""
  mean, scale = 1.75 * np.arange(12) - 9.3, np.ldexp(1.1, np.arange(-4, 8))
  symbols = np.array([-9, -7, -6, -3, -2, 1, 70, 4, 9, -60, 300, -90_000])
  writer = Writer()
  writer.put_integers(symbols, mean, scale, 1e-2)
  writer.put_pixels(abs(symbols) % 256, mean, scale, 256, 1e-2)
  writer.put_bits(symbols % 2, mean / 2, 1e-2)
  assert writer.to_bytes().hex() == GOLDEN


GOLDEN = (
    '6f5e256f76d15a0753970113729b9066a2b2d23b11b99ac046ce2498eb70b6baf81117f7f89fd8f3f586f2cc20'
    '8596887328ec87bc33')


def streams():
  """(bytes, how to decode them) of all kinds."""
  symbols, mean, scale = all_scales(40)
  yield (encode_integers(symbols, mean, scale, 1e-3),
         lambda data: decode_integers(data, mean, scale))
  yield (encode_pixels(abs(symbols) % 256, mean, scale, tolerance=1e-3),
         lambda data: decode_pixels(data, mean, scale))
  yield (encode_bits(symbols % 2, mean, 1e-3), lambda data: decode_bits(data, mean))


def test_cut_streams_are_refused():
  passed, cuts = 0, 0
  for data, decode in streams():
    with pytest.raises(UserError, match='damaged'):
      decode(b'')
    for end in range(len(data)):
      cuts += 1
      try:
        decode(data[:end])
        passed += 1
      except UserError as error:
        assert 'damaged' in str(error)
  assert passed < cuts / 64  # one in 256 is expected


def test_streams_with_more_behind_are_refused():
  for data, decode in streams():
    for more in (b'\0', b'\0' * 9, b'x', data):
      with pytest.raises(UserError, match='damaged'):
        decode(data + more)


def test_garbage_is_refused_or_is_a_stream():
  rng = np.random.default_rng(0)
  passed = []
  for data, decode in streams():
    for trial in range(300):
      garbage = bytearray(data if trial % 2 else rng.bytes(rng.integers(0, 600)))
      for _ in range(trial % 2):
        garbage[rng.integers(len(garbage))] ^= 1 << rng.integers(8)
      try:
        decode(bytes(garbage))
        passed.append(trial)
      except UserError as error:
        assert '\n' not in str(error)
  assert len(passed) < 20  # of 900: one in 256 is expected
  for fill in (b'\0', b'\xff'):
    for _, decode in streams():
      with pytest.raises(UserError):
        decode(fill * 5000)


def test_panics_and_what_constriction_finds_become_errors_of_the_data():
  class PanicException(BaseException):
    pass

  def fail(kind):
    raise kind('...')

  for kind in (PanicException, AssertionError):
    with pytest.raises(UserError, match='damaged'):
      range_coder.guarded(fail, kind)
  with pytest.raises(KeyboardInterrupt):
    range_coder.guarded(fail, KeyboardInterrupt)


@pytest.mark.parametrize('mean, scale, message', [
    ([0.0, math.nan], [1.0, 1.0], 'mean is not finite at 1 of 2'),
    ([0.0, math.inf], [1.0, 1.0], 'mean is not finite at 1 of 2'),
    ([0.0, 0.0], [math.nan, math.inf], 'scale is not finite at 2 of 2'),
    ([0.0, 0.0], [1.0, -1.0], 'scale is negative at 1 of 2'),
    ([0.0, 0.0], [1.0], '2 means but 1 scales'),
    ([[0.0, 0.0]], [1.0, 1.0], r'mean must be of shape \[n\], not \[1, 2\]'),
    ([0.0], [1.0], r'must be of shape \[1\]'),
])
def test_impossible_parameters(mean, scale, message):
  with pytest.raises(ValueError, match=message):
    encode_integers(np.array([0, 1]), mean, scale)
  with pytest.raises(ValueError, match=message):
    encode_pixels(np.array([0, 1]), mean, scale)
  with pytest.raises(ValueError, match=message):
    AnsStack(np.ones(9, np.uint32)).put_integers(np.array([0, 1]), mean, scale, -9, 9)
  if 'must be of shape' not in message:
    with pytest.raises(ValueError, match=message):
      decode_integers(b'123', mean, scale)


def test_impossible_arguments():
  zeros, ones = np.zeros(2), np.ones(2)
  for bad in (np.array([0.5, 1.0]), np.array([0, 2**31]), np.array([0, 1, 2])):
    with pytest.raises(ValueError, match='symbols'):
      encode_integers(bad, zeros, ones)
  for bad in (np.array([0, 256]), np.array([-1, 0])):
    with pytest.raises(ValueError, match=r'pixels must be in 0..255'):
      encode_pixels(bad, zeros, ones)
  with pytest.raises(ValueError, match=r'bits must be in 0..1'):
    encode_bits(np.array([0, 2]), zeros)
  with pytest.raises(ValueError, match='logits is not finite'):
    encode_bits(np.array([0, 1]), [0.0, math.nan])
  for levels in (1, 2**16 + 1):
    with pytest.raises(ValueError, match='levels'):
      encode_pixels(np.array([0, 0]), zeros, ones, grey_levels=levels)
  for tolerance in (-1.0, math.nan, Tolerance(np.array([1.0, -1.0])), Tolerance(0.1, 2.0)):
    with pytest.raises(ValueError, match='tolerances'):
      encode_integers(np.array([0, 0]), zeros, ones, tolerance)


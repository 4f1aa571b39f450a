"""Entropy coding: what is written is read, elsewhere too, at the cost that theory says."""

import math

import numpy as np
import pytest
from scipy.special import log_ndtr

from conv_draw.codec import entropy
from conv_draw.codec.entropy import Reader, Stack, Support, Tolerance, Writer
from conv_draw.errors import UserError

SCALES = [1e-3, 0.01, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1e3]


def sample(n, scale, seed=0, spread=20.0):
  """(symbols, mean, scale) with scales within an octave of `scale`, and symbols drawn from them."""
  rng = np.random.default_rng(seed)
  scale = scale * 2 ** rng.uniform(-0.5, 0.5, n)
  mean = rng.uniform(-spread, spread, n) * np.maximum(1, scale)
  return np.rint(rng.normal(mean, scale)).astype(np.int64), mean, scale


def all_scales(n, seed=0, **options):
  each = [sample(n, scale, seed, **options) for scale in SCALES]
  return [np.concatenate(arrays) for arrays in zip(*each, strict=True)]


def elsewhere(mean, scale, tolerance, seed=0):
  """Parameters as another machine may compute them: half at the edges of the tolerance."""
  rng = np.random.default_rng(seed)
  noise = lambda: np.where(
      rng.random(len(mean)) < 0.5, rng.uniform(-1, 1, len(mean)), rng.choice([-1, 1], len(mean)))
  return mean + tolerance * (scale + abs(mean)) * noise(), scale * 2 ** (tolerance * noise())


def at_boundaries(n, seed=0):
  """Parameters exactly where rounding changes its mind, or one ULP beside, of scales 2^-8..2^10."""
  rng = np.random.default_rng(seed)
  j = rng.integers(-64, 80, n)
  scale = np.where(
      rng.random(n) < 0.5, np.ldexp(entropy.HALFWAY[j % 8], j // 8), entropy._scale_of(j))
  step = np.ldexp(1.0, entropy._step_exponent(entropy._scale_index(scale, entropy.INTEGERS)))
  mean = (rng.integers(-100, 100, n) + 0.5 * rng.integers(0, 2, n)) * step + rng.integers(-9, 9, n)
  beside = lambda x: np.nextafter(x, x + rng.integers(-1, 2, n))
  return beside(mean), beside(scale)


def total_bits(log_masses):
  return -log_masses.sum() / math.log(2)


# Snapping -----------------------------------------------------------------------------------------


def test_tables_are_powers_to_the_last_bit_but_one():
  k = np.arange(8)
  np.testing.assert_allclose(entropy.ROOTS, 2 ** (k / 8), rtol=3e-16)
  np.testing.assert_allclose(entropy.HALFWAY, 2 ** ((k + 0.5) / 8), rtol=3e-16)


def test_probabilities_of_logits_do_not_hang_on_the_last_bits_of_exp():
  counts = 2**24 / (1 + np.exp(-entropy.LOGITS))
  assert (abs(counts % 1 - 0.5) > 1e-3).all()
  assert (np.diff(entropy.PROBABILITIES) > 0).all() and entropy.PROBABILITIES[0] > 0
  np.testing.assert_array_equal(entropy.PROBABILITIES + entropy.PROBABILITIES[::-1], 1)


def test_snapping_is_to_the_nearest_of_its_tables_and_repeatable():
  _, mean, scale = all_scales(2000)
  snapped = entropy.snap(mean, scale)
  new_mean, new_scale = snapped.values()
  certain = (snapped.j == entropy.FINEST) & (new_mean == np.rint(new_mean))
  within = ~certain & (scale > 2**-8)
  step = np.ldexp(1.0, entropy._step_exponent(snapped.j))
  assert (abs(np.log2(new_scale / scale))[within] <= 1 / 16 + 1e-12).all()
  assert (abs(new_mean - mean) <= step / 2)[within].all()
  assert (step <= new_scale / 8).all()
  np.testing.assert_array_equal(np.array(entropy.snap(new_mean, new_scale)), np.array(snapped))


def test_extremes_are_clamped():
  snapped = entropy.snap([0.0, 1e300, -1e300, 0.5], [0.0, 1e300, 1e-300, 0.0])
  mean, scale = snapped.values()
  np.testing.assert_array_equal(mean, [0, 2**24, -(2**24), 0.5])
  np.testing.assert_array_equal(scale, [2**-8, 2**12, 2**-8, 2**-8])
  mean, scale = entropy.snap([-1e9, 1e9], [0.0, 3.0], Support(0, 255, -32)).values()
  np.testing.assert_array_equal(mean, [0, 255])  # certain, both of them
  np.testing.assert_array_equal(scale, [2**-4, 2**-4])


def relative_entropy(mean, scale):
  """In bits, of the integers' exact masses and those after snapping, [n]."""
  x = np.rint(mean)[:, None] + np.arange(-250, 251)
  below, above = ((x + side - mean[:, None]) / scale[:, None] for side in (-0.5, 0.5))
  p = np.exp(log_ndtr(np.minimum(above, -below))) - np.exp(log_ndtr(np.minimum(below, -above)))
  p = abs(p)
  new_mean, new_scale = (v[:, None] for v in entropy.snap(mean, scale).values())
  below, above = ((x + side - new_mean) / new_scale for side in (-0.5, 0.5))
  flip = below > 0
  below, above = np.where(flip, -above, below), np.where(flip, -below, above)
  log_above = log_ndtr(above)
  log_q = log_above + np.log(-np.expm1(np.minimum(log_ndtr(below) - log_above, -1e-300)))
  seen = p > 1e-12
  return np.where(seen, p * (np.log(np.where(seen, p, 1)) - log_q), 0).sum(1) / math.log(2)


@pytest.mark.parametrize('octave', [-8, -6, -4, -2, 0, 1, 2, 3, 4])
def test_snapping_costs_less_than_two_thousandths_of_a_bit(octave):
  rng = np.random.default_rng(octave + 8)
  cost = relative_entropy(rng.uniform(-20, 20, 3000), 2.0 ** (octave + rng.random(3000)))
  assert cost.mean() < 0.0017
  assert cost.max() < 0.006


@pytest.mark.parametrize('support', [entropy.INTEGERS, Support(0, 255, -32), Support(-8, 7)])
@pytest.mark.parametrize('tolerance', [1e-6, 1e-4, 1e-2])
def test_what_is_not_ambiguous_snaps_alike_elsewhere(support, tolerance):
  for seed in range(10):
    mean, scale = at_boundaries(3000, seed)
    if seed % 2:
      _, mean, scale = all_scales(300, seed)
    clear = ~entropy.ambiguous(mean, scale, tolerance, support)
    there = entropy.snap(*elsewhere(mean, scale, tolerance, seed), support)
    for mine, other in zip(entropy.snap(mean, scale, support), there, strict=True):
      np.testing.assert_array_equal(mine[clear], other[clear])


def test_few_are_ambiguous():
  _, mean, scale = sample(50_000, 1.0, spread=1.0)
  # 2 (8 + 1 to 2 times 8 to 16) 1e-5 would be expected of |mean| <= scale.
  assert 1e-4 < entropy.ambiguous(mean, scale, 1e-5).mean() < 6e-4
  assert not entropy.ambiguous(mean, scale, 0).any()


# Integers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('n', [1, 2, 7, 1000])
def test_integers_round_trip(n, scale):
  symbols, mean, scale = sample(n, scale, seed=n)
  data = entropy.encode_integers(symbols.astype(np.int32), mean, scale)
  np.testing.assert_array_equal(entropy.decode_integers(data, mean, scale), symbols)


@pytest.mark.parametrize('scale', SCALES)
def test_payload_is_what_the_snapped_gaussians_say(scale):
  symbols, mean, scale = sample(50_000, scale)
  data = entropy.encode_integers(symbols, mean, scale, tolerance=0)
  np.testing.assert_array_equal(entropy.decode_integers(data, mean, scale), symbols)
  bits = entropy.code_length_bits(symbols, mean, scale)
  assert abs(8 * len(data) - bits) < 0.001 * bits + 64


def test_float32_parameters_are_taken_as_they_are():
  symbols, mean, scale = (x.astype(t) for x, t in zip(all_scales(100), 'iff', strict=True))
  data = entropy.encode_integers(symbols, mean, scale)
  wide = mean.astype(np.float64), scale.astype(np.float64)
  assert data == entropy.encode_integers(symbols, *wide)
  np.testing.assert_array_equal(entropy.decode_integers(data, *wide), symbols)


@pytest.mark.parametrize('tolerance', [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
def test_integers_round_trip_elsewhere(tolerance):
  for seed in range(6):
    symbols, mean, scale = all_scales(500, seed)
    data = entropy.encode_integers(symbols, mean, scale, tolerance)
    for other in range(3):
      there = elsewhere(mean, scale, tolerance, other)
      np.testing.assert_array_equal(entropy.decode_integers(data, *there), symbols)


@pytest.mark.parametrize('tolerance', [0, 1e-15, 1e-9, 1e-6, 1e-3])
def test_integers_round_trip_elsewhere_at_boundaries(tolerance):
  for seed in range(10):
    mean, scale = at_boundaries(3000, seed)
    symbols = np.rint(np.random.default_rng(seed).normal(mean, scale)).astype(np.int64)
    data = entropy.encode_integers(symbols, mean, scale, tolerance)
    for other in range(3):
      there = elsewhere(mean, scale, tolerance, other) if tolerance else (mean, scale)
      np.testing.assert_array_equal(entropy.decode_integers(data, *there), symbols)


def test_without_corrections_boundaries_break_the_stream():
  mean, scale = at_boundaries(3000)
  symbols = np.rint(mean).astype(np.int64)
  data = entropy.encode_integers(symbols, mean, scale, tolerance=0)
  with pytest.raises(UserError, match='damaged'):
    entropy.decode_integers(data, *elsewhere(mean, scale, 1e-6))


def test_errors_of_many_steps_are_corrected_too():
  rng = np.random.default_rng(0)
  mean, scale = rng.uniform(-1e4, 1e4, 2000), np.full(2000, 0.01)
  symbols = np.rint(mean).astype(np.int64)
  for error, octaves in ((0.01, 0.0), (0.3, 0.2), (1e6, 1.0)):
    data = entropy.encode_integers(symbols, mean, scale, Tolerance(error, octaves))
    each = Tolerance(np.full(2000, error), octaves)
    assert data == entropy.encode_integers(symbols, mean, scale, each)
    noise = rng.uniform(-1, 1, (2, 2000))
    there = mean + error * noise[0], scale * 2 ** (octaves * noise[1])
    np.testing.assert_array_equal(entropy.decode_integers(data, *there), symbols)


@pytest.mark.parametrize('tolerance', [1e-5, 1e-4])
def test_corrections_cost_little_more_than_their_surprise(tolerance):
  symbols, mean, scale = sample(50_000, 5.0)
  absolute = Tolerance(tolerance * scale, tolerance)
  p = entropy.ambiguous(mean, scale, absolute).mean()
  bits = 8 * (len(entropy.encode_integers(symbols, mean, scale, absolute))
              - len(entropy.encode_integers(symbols, mean, scale, 0)))
  # Of half of them each, scales and means: log2(2 / p) + 1.44 for where, and 1 for which. Counts.
  assert bits < 50_000 * p * (math.log2(1 / p) + 3.44) + 48


def test_latents_that_carry_nothing_cost_nothing():
  rng = np.random.default_rng(0)
  symbols = rng.integers(-2, 3, 100_000)
  mean = symbols + rng.uniform(-0.2, 0.2, 100_000)
  scale = np.exp(rng.uniform(math.log(1e-4), math.log(0.05), 100_000))
  data = entropy.encode_integers(symbols, mean, scale)
  assert len(data) <= 4  # 0.3 bits, and 2 bytes of every stream
  there = elsewhere(mean, scale, 1e-5)
  np.testing.assert_array_equal(entropy.decode_integers(data, *there), symbols)


def test_escapes():
  rng = np.random.default_rng(0)
  _, mean, scale = all_scales(100)
  far = np.rint(mean + rng.choice([-1, 1], 1000) * 2.0 ** rng.uniform(0, 30, 1000)).astype(np.int64)
  far[:5] = [entropy.SYMBOL_LIMIT, -entropy.SYMBOL_LIMIT, 16, -16, 17]
  data = entropy.encode_integers(far, mean, scale)
  np.testing.assert_array_equal(entropy.decode_integers(data, mean, scale), far)
  assert 8 * len(data) < 1000 * (24 + 2 * 31 + 1)
  reach = np.array([-17, -16, -15, 15, 16, 17])  # around where escapes begin
  data = entropy.encode_integers(reach, np.zeros(6), np.full(6, 0.1))
  np.testing.assert_array_equal(entropy.decode_integers(data, np.zeros(6), np.full(6, 0.1)), reach)


def test_nothing_takes_no_bytes():
  none = np.zeros(0)
  assert entropy.encode_integers(none.astype(int), none, none) == b''
  assert entropy.encode_pixels(none.astype(np.uint8), none, none) == b''
  assert entropy.encode_bits(none.astype(np.uint8), none) == b''
  for values in (entropy.decode_integers(b'', none, none), entropy.decode_pixels(b'', none, none),
                 entropy.decode_bits(b'', none)):
    assert values.shape == (0,) and values.dtype.kind in 'iu'
  with pytest.raises(UserError):
    entropy.decode_integers(b'x', none, none)
  assert entropy.code_length_bits(none.astype(int), none, none) == 0


# Pixels and bits ----------------------------------------------------------------------------------


@pytest.mark.parametrize('levels', [2, 17, 256, 1000])
@pytest.mark.parametrize('scale', [1e-3, 0.1, 1.0, 20.0, 1e3])
def test_pixels(levels, scale):
  rng = np.random.default_rng(0)
  mean = rng.uniform(-0.3, 1.3, 20_000) * levels
  scale = scale * 2 ** rng.uniform(-0.5, 0.5, 20_000)
  values = np.clip(np.rint(rng.normal(mean, scale)), 0, levels - 1).astype(np.int64)
  exact = entropy.encode_pixels(values, mean, scale, levels, tolerance=0)
  bits = entropy.pixel_code_length_bits(values, mean, scale, levels)
  assert abs(8 * len(exact) - bits) < 0.001 * bits + 64
  data = entropy.encode_pixels(values, mean, scale, levels, 1e-5)
  for seed in range(3):
    there = elsewhere(mean, scale, 1e-5, seed)
    decoded = entropy.decode_pixels(data, *there, levels)
    np.testing.assert_array_equal(decoded, values)
    assert decoded.dtype == (np.uint8 if levels <= 256 else np.uint16)


def test_pixels_masses_sum_to_one():
  values = np.arange(256)
  for mean, scale in ((3.2, 5.0), (-20.0, 9.0), (254.9, 0.3), (900.0, 2.0)):
    bits = [entropy.pixel_code_length_bits([v], [mean], [scale]) for v in values]
    assert np.exp2(-np.array(bits)).sum() == pytest.approx(1, abs=1e-9)


def test_pixels_masses_are_those_of_the_coder():
  words = np.arange(1, 9, dtype=np.uint32)
  for value, mean, scale in ((0, -3.0, 2.0), (0, 3.0, 2.0), (255, 260.0, 20.0), (17, 18.3, 1.0)):
    stack = Stack(words)
    before, many = stack.bits(), np.full(4000, value)
    stack.push_pixels(many, np.full(4000, mean), np.full(4000, scale))
    bits = entropy.pixel_code_length_bits(many, np.full(4000, mean), np.full(4000, scale))
    assert stack.bits() - before == pytest.approx(bits, rel=1e-3, abs=2)


def test_bits():
  rng = np.random.default_rng(0)
  logits = np.concatenate(
      [rng.normal(0, 6, 20_000), entropy.LOGIT_EDGES, entropy.LOGITS, [99.0, -99.0]])
  values = (rng.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
  exact = entropy.encode_bits(values, logits, tolerance=0)
  bits = entropy.bit_code_length_bits(values, logits)
  assert abs(8 * len(exact) - bits) < 0.001 * bits + 64
  true_bits = total_bits(-np.logaddexp(0, np.where(values == 1, -logits, logits)))
  assert abs(bits - true_bits) < 0.01 * true_bits
  for tolerance in (1e-6, 1e-4, Tolerance(0.7)):
    data = entropy.encode_bits(values, logits, tolerance)
    error = 0.7 if isinstance(tolerance, Tolerance) else tolerance * (1 + abs(logits))
    for _ in range(3):
      there = logits + error * rng.choice([-1, 1, 0.3], len(logits))
      decoded = entropy.decode_bits(data, there)
      np.testing.assert_array_equal(decoded, values)
      assert decoded.dtype == np.uint8


def test_snapping_logits_costs_less_than_a_thousandth_of_a_bit():
  logits = np.linspace(-20, 20, 100_001)
  p = 1 / (1 + np.exp(-logits))
  q = entropy.PROBABILITIES[entropy._logit_index(logits)]
  cost = p * np.log2(p / q) + (1 - p) * np.log2((1 - p) / (1 - q))
  assert cost[abs(logits) < 1].mean() < 0.001
  assert cost.max() < 0.003
  assert cost[abs(logits) > 8].max() < 0.00015


# Streams ------------------------------------------------------------------------------------------


def test_many_calls_share_a_stream():
  rng = np.random.default_rng(0)
  writer = Writer()
  sizes = [0, 1, 5, 300, 0, 40] * 5
  for seed, n in enumerate(sizes):
    symbols, mean, scale = sample(n, 2.0, seed)
    writer.integers(symbols, mean, scale, 1e-4)
    assert writer.to_bytes() == writer.to_bytes()  # which ends nothing
    writer.pixels(abs(symbols) % 256, mean, scale, 256, 1e-4)
    writer.bits(symbols % 2, mean, 1e-4)
  reader = Reader(writer.to_bytes())
  for seed, n in enumerate(sizes):
    symbols, mean, scale = sample(n, 2.0, seed)
    mean = mean * (1 + 1e-4 * rng.uniform(-1, 1, n))
    np.testing.assert_array_equal(reader.integers(mean, scale), symbols)
    np.testing.assert_array_equal(reader.pixels(mean, scale, 256), abs(symbols) % 256)
    np.testing.assert_array_equal(reader.bits(mean), symbols % 2)
  reader.finish()


def test_a_stream_costs_about_two_bytes():
  _, mean, scale = sample(200, 1e-4)
  symbols = np.rint(mean).astype(np.int64)
  mean = symbols.astype(np.float64)
  assert len(entropy.encode_integers(symbols, mean, scale)) <= 2
  excess = []
  for seed in range(200):
    symbols, mean, scale = sample(30, 1.0, seed)
    data = entropy.encode_integers(symbols, mean, scale, tolerance=0)
    np.testing.assert_array_equal(entropy.decode_integers(data, mean, scale), symbols)
    excess.append(8 * len(data) - entropy.code_length_bits(symbols, mean, scale))
  assert max(excess) < 24 and np.mean(excess) < 16


def test_the_format_does_not_change():
  """If this fails, files of before cannot be read: constriction, or the tables, have changed."""
  mean, scale = 1.75 * np.arange(12) - 9.3, np.ldexp(1.1, np.arange(-4, 8))
  symbols = np.array([-9, -7, -6, -3, -2, 1, 70, 4, 9, -60, 300, -90_000])
  writer = Writer()
  writer.integers(symbols, mean, scale, 1e-2)
  writer.pixels(abs(symbols) % 256, mean, scale, 256, 1e-2)
  writer.bits(symbols % 2, mean / 2, 1e-2)
  assert writer.to_bytes().hex() == GOLDEN
  stack = Stack(np.array([2**31, 2**20, 3_333_333] * 4, np.uint32))
  np.testing.assert_array_equal(stack.pop(mean, scale, -50, 50), GOLDEN_POPPED)
  stack.push(np.clip(symbols, -50, 50), mean, scale, -50, 50)
  assert stack.to_bytes().hex() == GOLDEN_STACK


GOLDEN = (
    '6f3f40bbaa14505f0e604e8171ec875055d8e8cc5615366f17439c72b705c1678f4892afeb833f9c5b7b45eed9'
    '0fd8f0aeabd2ce28c04a')
GOLDEN_POPPED = [-9, -8, -6, -5, -2, -4, 8, 1, 29, 50, -19, -50]
GOLDEN_STACK = (
    '0000008000001000d5dc32000000008000001000d5dc32000000008000001000d5dc3200b045f58914448e1aba'
    'ee587c9f17')


def streams():
  """(bytes, how to decode them) of all kinds."""
  symbols, mean, scale = all_scales(40)
  yield (entropy.encode_integers(symbols, mean, scale, 1e-3),
         lambda data: entropy.decode_integers(data, mean, scale))
  yield (entropy.encode_pixels(abs(symbols) % 256, mean, scale, tolerance=1e-3),
         lambda data: entropy.decode_pixels(data, mean, scale))
  yield (entropy.encode_bits(symbols % 2, mean, 1e-3), lambda data: entropy.decode_bits(data, mean))


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
      entropy._guarded(fail, kind)
  with pytest.raises(KeyboardInterrupt):
    entropy._guarded(fail, KeyboardInterrupt)


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
    entropy.encode_integers(np.array([0, 1]), mean, scale)
  with pytest.raises(ValueError, match=message):
    entropy.encode_pixels(np.array([0, 1]), mean, scale)
  with pytest.raises(ValueError, match=message):
    Stack(np.ones(9, np.uint32)).push(np.array([0, 1]), mean, scale, -9, 9)
  if 'must be of shape' not in message:
    with pytest.raises(ValueError, match=message):
      entropy.decode_integers(b'123', mean, scale)


def test_impossible_arguments():
  zeros, ones = np.zeros(2), np.ones(2)
  for bad in (np.array([0.5, 1.0]), np.array([0, 2**31]), np.array([0, 1, 2])):
    with pytest.raises(ValueError, match='symbols'):
      entropy.encode_integers(bad, zeros, ones)
  for bad in (np.array([0, 256]), np.array([-1, 0])):
    with pytest.raises(ValueError, match=r'pixels must be in 0..255'):
      entropy.encode_pixels(bad, zeros, ones)
  with pytest.raises(ValueError, match=r'bits must be in 0..1'):
    entropy.encode_bits(np.array([0, 2]), zeros)
  with pytest.raises(ValueError, match='logits is not finite'):
    entropy.encode_bits(np.array([0, 1]), [0.0, math.nan])
  with pytest.raises(ValueError, match='levels'):
    entropy.encode_pixels(np.array([0, 0]), zeros, ones, levels=1)
  for tolerance in (-1.0, math.nan, Tolerance(np.array([1.0, -1.0])), Tolerance(0.1, 2.0)):
    with pytest.raises(ValueError, match='tolerances'):
      entropy.encode_integers(np.array([0, 0]), zeros, ones, tolerance)


# Bits-back ----------------------------------------------------------------------------------------


def words(n, seed=0):
  return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32)


@pytest.mark.parametrize('exact', [False, True])
def test_pop_and_push_undo_each_other(exact):
  rng = np.random.default_rng(0)
  for seed in range(20):
    stack = Stack(words(1000, seed), exact)
    start, undo = stack.to_bytes(), []
    for step in range(30):
      n = int(rng.integers(0, 50))
      _, mean, scale = sample(n, rng.choice(SCALES), step)
      low, high = -int(rng.integers(1, 300)), int(rng.integers(1, 300))
      before = stack.to_bytes()
      if rng.random() < 0.5:
        symbols = stack.pop(mean, scale, low, high)
        undo.append((stack.push, symbols, mean, scale, low, high))
      else:
        symbols = rng.integers(low, high + 1, n)
        stack.push(symbols, mean, scale, low, high)
        undo.append((stack.pop, mean, scale, low, high))
        again = Stack.from_bytes(stack.to_bytes(), exact)
        np.testing.assert_array_equal(again.pop(mean, scale, low, high), symbols)
        assert again.to_bytes() == before
    for function, *arguments in undo[::-1]:
      function(*arguments)
    assert stack.to_bytes() == start
    np.testing.assert_array_equal(stack.initial_words(), words(1000, seed))


def test_popping_samples_and_pushing_costs():
  n = 20_000
  stack = Stack(words(40_000))
  mean, scale = np.full(n, 1.5), np.full(n, 4.0)  # which are in the tables
  before = stack.bits()
  symbols = stack.pop(mean, scale, -256, 255)
  assert symbols.mean() == pytest.approx(1.5, abs=0.1)
  assert symbols.std() == pytest.approx(4.0, abs=0.1)
  assert before - stack.bits() == pytest.approx(
      entropy.code_length_bits(symbols, mean, scale), rel=1e-3)
  before = stack.bits()
  stack.push(symbols, mean * 0, scale * 2, -256, 255)
  assert stack.bits() - before == pytest.approx(
      entropy.code_length_bits(symbols, mean * 0, scale * 2), rel=1e-3)
  assert 8 * len(stack.to_bytes()) == pytest.approx(stack.bits(), abs=9)


def test_means_outside_the_grid():
  stack = Stack(words(100))
  mean = np.array([-1e6, 1e6, -30.0, 30.0])
  symbols = stack.pop(mean, np.array([1.0, 0.01, 100.0, 1.0]), -8, 7)
  assert symbols[0] == -8 and symbols[1] == 7 and symbols[3] == 7
  assert (abs(symbols + 0.5) <= 7.5).all()


def test_bits_back_elsewhere():
  """z ~ q(z | x) is popped; x and its parity given z, then z, are pushed; undone elsewhere."""
  n, tolerance = 50, 1e-4
  images = np.random.default_rng(0).integers(0, 256, (20, n))
  q = lambda x: (x / 10 - 12.0, 0.6 + x / 300)
  p = lambda z: (10 * z + 120.0, 6 + abs(z) / 3)
  prior = np.full(n, 0.3), np.full(n, 8.0)
  stack, streams = Stack(words(100)), []
  for x in images:
    # A decoder needs q's parameters last, when it knows x: so they have a stream of their own.
    first, last = Writer(), Writer()
    z = stack.pop(*last.gaussians(*q(x), tolerance), -64, 63)
    stack.push_pixels(x, *first.gaussians(*p(z), tolerance, levels=256))
    stack.push_bits(x % 2, first.logits(z / 3, tolerance))
    stack.push(z, *prior, -64, 63)
    streams.append((first.to_bytes(), last.to_bytes()))
  stack = Stack.from_bytes(stack.to_bytes())
  for x, (first, last) in zip(images[::-1], streams[::-1], strict=True):
    first, last = Reader(first), Reader(last)
    z = stack.pop(*prior, -64, 63)
    p_parameters = first.gaussians(*elsewhere(*p(z), tolerance), levels=256)
    parity = stack.pop_bits(first.logits(z / 3 * (1 - tolerance)))
    np.testing.assert_array_equal(stack.pop_pixels(*p_parameters), x)
    np.testing.assert_array_equal(parity, x % 2)
    stack.push(z, *last.gaussians(*elsewhere(*q(x), tolerance)), -64, 63)
    first.finish()
    last.finish()
  np.testing.assert_array_equal(stack.initial_words(), words(100))


def test_stacks_run_out_of_bits():
  stack = Stack(words(2))
  with pytest.raises(UserError, match='ran out of bits'):
    stack.pop(np.zeros(100), np.full(100, 9.0), -99, 99)
  with pytest.raises(ValueError, match='initial_words'):
    Stack(np.zeros(0, np.uint32))
  with pytest.raises(ValueError, match='initial_words'):
    Stack(np.zeros(3))


def test_damaged_stacks():
  for data in (b'', b'\1', b'\1\2\3\4', b'\1\2\3\4\5\0', b'\0' * 12):
    with pytest.raises(UserError, match='damaged'):
      Stack.from_bytes(data)
  stack = Stack(np.zeros(4, np.uint32))
  assert len(Stack.from_bytes(stack.to_bytes()).initial_words()) == 4
  stack.push(np.array([3]), np.zeros(1), np.ones(1), -9, 9)
  with pytest.raises(UserError, match='does not end where it began'):
    stack.initial_words()
  rng = np.random.default_rng(0)
  for _ in range(100):
    stack = Stack.from_bytes(rng.bytes(50) + b'\1')
    try:
      stack.pop(np.zeros(99), np.full(99, 5.0), -99, 99)
    except UserError:
      pass


def test_stack_arguments():
  stack = Stack(words(9))
  with pytest.raises(ValueError, match=r'symbols must be in -9..9'):
    stack.push(np.array([10]), np.zeros(1), np.ones(1), -9, 9)
  for low, high in ((0, 0), (5, 1), (0, 2**22), (-(2**30), 0)):
    with pytest.raises(ValueError, match=r'low..high'):
      stack.pop(np.zeros(1), np.ones(1), low, high)
  for bad in ([0.0], [1.0], [math.nan]):
    with pytest.raises(ValueError, match='probabilities'):
      stack.pop_bits(bad)

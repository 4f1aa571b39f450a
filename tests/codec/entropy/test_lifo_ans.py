"""The stack of bits-back coding: putting and taking undo each other, taking samples."""

import math

import numpy as np
import pytest

from conv_draw.codec.entropy import range_coder
from conv_draw.codec.entropy.lifo_ans import AnsStack
from conv_draw.errors import UserError
from tests.codec.entropy import gaussians
from tests.codec.entropy.gaussians import SCALES, sample


def words(n, seed=0):
  return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32)


def test_taking_and_putting_undo_each_other():
  rng = np.random.default_rng(0)
  for seed in range(20):
    stack = AnsStack(words(1000, seed))
    start, undo = stack.to_bytes(), []
    for step in range(30):
      n = int(rng.integers(0, 50))
      _, mean, scale = sample(n, rng.choice(SCALES), step)
      low, high = -int(rng.integers(1, 300)), int(rng.integers(1, 300))
      before = stack.to_bytes()
      if rng.random() < 0.5:
        symbols = stack.take_integers(mean, scale, low, high)
        undo.append((stack.put_integers, symbols, mean, scale, low, high))
      else:
        symbols = rng.integers(low, high + 1, n)
        stack.put_integers(symbols, mean, scale, low, high)
        undo.append((stack.take_integers, mean, scale, low, high))
        again = AnsStack.from_bytes(stack.to_bytes())
        np.testing.assert_array_equal(again.take_integers(mean, scale, low, high), symbols)
        assert again.to_bytes() == before
    for function, *arguments in undo[::-1]:
      function(*arguments)
    assert stack.to_bytes() == start
    np.testing.assert_array_equal(stack.initial_words(), words(1000, seed))


def test_taking_samples_and_putting_costs():
  n = 20_000
  stack = AnsStack(words(40_000))
  mean, scale = np.full(n, 2.0), np.full(n, 4.0)  # which are in the tables
  before = stack.bits()
  symbols = stack.take_integers(mean, scale, -32, 31)  # too few for any from beyond the tails
  assert symbols.mean() == pytest.approx(2.0, abs=0.1)
  assert symbols.std() == pytest.approx(4.0, abs=0.1)
  assert before - stack.bits() == pytest.approx(
      gaussians.code_length_bits(symbols, mean, scale), rel=1e-3)
  before = stack.bits()
  stack.put_integers(symbols, mean * 0, scale * 2, -256, 255)
  assert stack.bits() - before == pytest.approx(
      gaussians.code_length_bits(symbols, mean * 0, scale * 2), rel=1e-3)
  assert 8 * len(stack.to_bytes()) == pytest.approx(stack.bits(), abs=9)


def parts(n=50):
  """[(verb, answers, parameters)] of both kinds that streams and stacks share."""
  rng = np.random.default_rng(0)
  found = []
  for seed in range(6):
    _, mean, scale = sample(n, 3.0, seed)
    found.append(('pixels', rng.integers(0, 17, n), (mean, scale, 17)))
    found.append(('bits', rng.integers(0, 2, n), (rng.normal(0, 2, n),)))
  return found


@pytest.mark.parametrize('stacked', [False, True])
def test_streams_and_stacks_are_put_to_and_taken_from_alike(stacked):
  sink = AnsStack(words(9)) if stacked else range_coder.Writer()
  for verb, answers, parameters in (reversed(parts()) if stacked else parts()):
    getattr(sink, f'put_{verb}')(answers, *parameters, tolerance=1e-6)
  source = sink if stacked else range_coder.Reader(sink.to_bytes())
  for verb, answers, parameters in parts():
    found = getattr(source, f'take_{verb}')(*parameters)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, answers)
  if stacked:
    np.testing.assert_array_equal(source.initial_words(), words(9))
  else:
    source.finish()


def test_means_outside_the_grid():
  stack = AnsStack(words(100))
  mean = np.array([-1e6, 1e6, -30.0, 30.0])
  symbols = stack.take_integers(mean, np.array([1.0, 0.01, 100.0, 1.0]), -8, 7)
  assert symbols[0] == -8 and symbols[1] == 7 and symbols[3] == 7
  assert (abs(symbols + 0.5) <= 7.5).all()


def test_stacks_run_out_of_bits():
  stack = AnsStack(words(2))
  with pytest.raises(UserError, match='ran out of bits'):
    stack.take_integers(np.zeros(100), np.full(100, 9.0), -99, 99)
  with pytest.raises(ValueError, match='initial_words'):
    AnsStack(np.zeros(0, np.uint32))
  with pytest.raises(ValueError, match='initial_words'):
    AnsStack(np.zeros(3))


def test_damaged_stacks():
  for data in (b'', b'\1', b'\1\2\3\4', b'\1\2\3\4\5\0', b'\0' * 12):
    with pytest.raises(UserError, match='damaged'):
      AnsStack.from_bytes(data)
  stack = AnsStack(np.zeros(4, np.uint32))
  assert len(AnsStack.from_bytes(stack.to_bytes()).initial_words()) == 4
  stack.put_integers(np.array([3]), np.zeros(1), np.ones(1), -9, 9)
  with pytest.raises(UserError, match='does not end where it began'):
    stack.initial_words()
  rng = np.random.default_rng(0)
  for _ in range(100):
    stack = AnsStack.from_bytes(rng.bytes(50) + b'\1')
    try:
      stack.take_integers(np.zeros(99), np.full(99, 5.0), -99, 99)
    except UserError:
      pass


def test_stack_arguments():
  stack = AnsStack(words(9))
  with pytest.raises(ValueError, match=r'symbols must be in -9..9'):
    stack.put_integers(np.array([10]), np.zeros(1), np.ones(1), -9, 9)
  for low, high in ((0, 0), (5, 1), (0, 2**22), (-(2**30), 0)):
    with pytest.raises(ValueError, match=r'low..high'):
      stack.take_integers(np.zeros(1), np.ones(1), low, high)
  with pytest.raises(ValueError, match='logits'):
    stack.take_bits([math.nan])


def test_bits_cost_what_they_should():
  n = 20_000
  logits = np.random.default_rng(0).normal(0, 3, n)
  values = (np.random.default_rng(1).random(n) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
  stack = AnsStack(words(10))
  before = stack.bits()
  stack.put_bits(values, logits)
  expected = np.logaddexp(0, np.where(values == 1, -logits, logits)).sum() / np.log(2)
  assert stack.bits() - before == pytest.approx(expected, rel=1e-3)
  np.testing.assert_array_equal(stack.take_bits(logits), values)
  stack.put_bits(np.array([0, 1]), np.array([1e4, -1e4]))  # as good as impossible, not quite
  np.testing.assert_array_equal(stack.take_bits(np.array([1e4, -1e4])), [0, 1])


def test_the_format_does_not_change():
  """If this fails, archives of before cannot be read: constriction has changed."""
  mean, scale = 1.75 * np.arange(12) - 9.3, np.ldexp(1.1, np.arange(-4, 8))
  symbols = np.array([-9, -7, -6, -3, -2, 1, 70, 4, 9, -60, 300, -90_000])
  stack = AnsStack(np.array([2**31, 2**20, 3_333_333] * 4, np.uint32))
  np.testing.assert_array_equal(stack.take_integers(mean, scale, -50, 50), GOLDEN_TAKEN)
  stack.put_integers(np.clip(symbols, -50, 50), mean, scale, -50, 50)
  assert stack.to_bytes().hex() == GOLDEN_STACK


GOLDEN_TAKEN = [-9, -8, -6, -4, -3, 1, 0, -8, 12, 28, 15, -50]
GOLDEN_STACK = (
    '0000008000001000d5dc32000000008000001000d5dc32000000008000001000d5dc32004031eddf477d8f3d40'
    '932e8c4835')

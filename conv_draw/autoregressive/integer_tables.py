"""Tables by which integers stand for logistic mixtures: the same numbers on every machine.

They are computed in decimal arithmetic, whose results are defined to the last digit, not by a
platform's exp and log.
"""

import decimal
import functools
import itertools

import numpy as np

NATURAL = 64  # of logits, log scales and slopes: 1 is 1/64
SUBPIXEL = 16  # of means: 1 is 1/16 of a grey value

# Spreads, in grey values: exp(j / 8).
SPREADS = 41
SPREAD_STEP = NATURAL // 8

# Scales of logistics, in grey values: exp(-2 + i / 64).
SCALES = 448
SCALE_OF_1 = 2 * NATURAL  # the place of scale 1

# The logistic function from -REACH to REACH in steps of 1 / STEP, as a share of ONE.
REACH, STEP = 12, 32
ONE = 2**18
RISE_BITS = 12  # it rises by less than 2^12 in a step

# Weights of components add up to this: 2^12 less a part in 256, which all values share alike.
WEIGHTS = 4080

TOTAL = 2**16  # frequencies of a pixel's values add up to this


def _exp(numerator, denominator):
  return (decimal.Decimal(numerator) / denominator).exp()


def _whole(value):
  return int(value.to_integral_value(decimal.ROUND_HALF_EVEN))


def _table(values, dtype=np.int32):
  table = np.array(values, dtype)
  table.setflags(write=False)
  return table


@functools.cache
def spread_of():
  """int32 [16 * 255 + 1]: j of a mean distance in 1/16 grey values, which is spread - 1."""
  with decimal.localcontext(prec=40):
    edges = [16 * (_exp(2 * j + 1, 16) - 1) for j in range(SPREADS - 1)]
    return _table([sum(edge <= m for edge in edges) for m in range(16 * 255 + 1)])


@functools.cache
def units():
  """float32 [SPREADS]: spreads in 1/16 grey values, whole."""
  with decimal.localcontext(prec=40):
    return _table([_whole(SUBPIXEL * _exp(j, 8)) for j in range(SPREADS)], np.float32)


@functools.cache
def gains():
  """float32 [SPREADS]: 32 / spread, multiples of 2^-9."""
  with decimal.localcontext(prec=40):
    return _table([_whole(2**14 / _exp(j, 8)) / 2**9 for j in range(SPREADS)], np.float32)


@functools.cache
def widths():
  """int32 [SCALES]: 1/16 grey value in units of a scale, in 2^-16."""
  with decimal.localcontext(prec=40):
    return _table([
        _whole(2**16 / (SUBPIXEL * _exp(i - SCALE_OF_1, NATURAL))) for i in range(SCALES)])


@functools.cache
def exponentials():
  """int32 [768]: exp(-i / 64) in 2^-16."""
  with decimal.localcontext(prec=40):
    return _table([_whole(2**16 * _exp(-i, NATURAL)) for i in range(REACH * NATURAL)])


@functools.cache
def logistic():
  """int32 [2 REACH STEP + 1]: 1 / (1 + exp(-a)) in 1 / ONE, from 0 to ONE at the ends.

  Times 2^RISE_BITS, plus how much it rises to the next one.
  """
  with decimal.localcontext(prec=40):
    middle = [_whole(ONE / (1 + _exp(-i, STEP))) for i in range(1 - REACH * STEP, REACH * STEP)]
    values = [0, *middle, ONE, ONE]
    return _table([a * 2**RISE_BITS + b - a for a, b in itertools.pairwise(values)])

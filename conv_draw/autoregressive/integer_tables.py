"""The tables of logistic mixtures in integers, the same numbers on every machine.

They are computed in decimal arithmetic, which is defined to the last digit, unlike a platform's exp
and log.
"""

import decimal
import functools
import itertools

import numpy as np

NATURAL = 64  # units per 1 of logits, log scales and slopes
SUBPIXEL = 16  # units per grey value of means

# Spreads, in grey values: exp(j / 8).
SPREADS = 41
SPREAD_STEP = NATURAL // 8

# Scales of logistics, in grey values: exp(-2 + i / 64).
SCALES = 448
SCALE_OF_1 = 2 * NATURAL  # the index of scale 1

# The logistic function between -LOGISTIC_RANGE and LOGISTIC_RANGE, in units of 1 / ONE, with
# LOGISTIC_STEPS entries per 1 of its argument.
LOGISTIC_RANGE, LOGISTIC_STEPS = 12, 32
ONE = 2**18
RISE_BITS = 12  # bits of the difference of successive entries

WEIGHTS = 4080  # sum of the components' weights: 2^12 less 1/256, the mass spread over all values
TOTAL = 2**16  # sum of the frequencies of a pixel's values


def _exp(numerator, denominator):
  return (decimal.Decimal(numerator) / denominator).exp()


def _nearest(value):
  return int(value.to_integral_value(decimal.ROUND_HALF_EVEN))


def _table(values, dtype=np.int32):
  table = np.array(values, dtype)
  table.setflags(write=False)
  return table


@functools.cache
def spread_of():
  """int32 [16 * 255 + 1]: the index of a spread, by spread - 1 in 1/16 grey values."""
  with decimal.localcontext(prec=40):
    edges = [16 * (_exp(2 * j + 1, 16) - 1) for j in range(SPREADS - 1)]
    return _table([sum(edge <= m for edge in edges) for m in range(16 * 255 + 1)])


@functools.cache
def units():
  """float32 [SPREADS]: spreads in 1/16 grey values, integers."""
  with decimal.localcontext(prec=40):
    return _table([_nearest(SUBPIXEL * _exp(j, 8)) for j in range(SPREADS)], np.float32)


@functools.cache
def gains():
  """float32 [SPREADS]: 32 / spread, multiples of 2^-9."""
  with decimal.localcontext(prec=40):
    return _table([_nearest(2**14 / _exp(j, 8)) / 2**9 for j in range(SPREADS)], np.float32)


@functools.cache
def widths():
  """int32 [SCALES]: 1/16 grey value over the scale, in 2^-16."""
  with decimal.localcontext(prec=40):
    return _table([
        _nearest(2**16 / (SUBPIXEL * _exp(i - SCALE_OF_1, NATURAL))) for i in range(SCALES)])


@functools.cache
def exponentials():
  """int32 [768]: exp(-i / 64) in 2^-16."""
  with decimal.localcontext(prec=40):
    return _table([_nearest(2**16 * _exp(-i, NATURAL)) for i in range(LOGISTIC_RANGE * NATURAL)])


@functools.cache
def logistic():
  """int32 [2 LOGISTIC_RANGE LOGISTIC_STEPS + 1]: 1 / (1 + exp(-a)) in 1 / ONE, from 0 to ONE.

  An entry is the value times 2^RISE_BITS, plus the difference to the next value.
  """
  with decimal.localcontext(prec=40):
    last = LOGISTIC_RANGE * LOGISTIC_STEPS
    middle = [_nearest(ONE / (1 + _exp(-i, LOGISTIC_STEPS))) for i in range(1 - last, last)]
    values = [0, *middle, ONE, ONE]
    return _table([a * 2**RISE_BITS + b - a for a, b in itertools.pairwise(values)])

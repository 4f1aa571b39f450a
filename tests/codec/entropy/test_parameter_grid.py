"""Rounding parameters to the nearest of coarse tables, and its cost."""

import math

import numpy as np
import pytest
from scipy.special import log_ndtr

from conv_draw.codec.entropy import parameter_grid as grid
from conv_draw.codec.entropy.parameter_grid import Support
from tests.codec.entropy.gaussians import all_scales, round_gaussians


def test_tables_are_powers_to_the_last_bit_but_one():
  np.testing.assert_allclose(grid.SCALES, 2 ** (np.arange(-64, 97) / 8), rtol=3e-16)


def test_probabilities_of_logits_do_not_hang_on_the_last_bits_of_exp():
  counts = 2**24 / (1 + np.exp(-grid.LOGITS))
  assert (abs(counts % 1 - 0.5) > 1e-3).all()
  assert (np.diff(grid.PROBABILITIES) > 0).all() and grid.PROBABILITIES[0] > 0
  np.testing.assert_array_equal(grid.PROBABILITIES + grid.PROBABILITIES[::-1], 1)


def test_rounding_is_to_the_nearest_of_its_tables_and_repeatable():
  _, mean, scale = all_scales(2000)
  rounded = round_gaussians(mean, scale)
  new_mean, new_scale = rounded.values()
  certain = (rounded.j == grid.FINEST) & (new_mean == np.rint(new_mean))
  within = ~certain & (scale > 2**-8)
  step = grid.STEPS[rounded.j - grid.FINEST]
  assert (abs(np.log2(new_scale / scale))[within] <= 1 / 16 + 1e-12).all()
  assert (abs(new_mean - mean) <= step / 2)[within].all()
  assert (step <= new_scale / 4).all()
  np.testing.assert_array_equal(round_gaussians(new_mean, new_scale), rounded)


def test_extremes_are_clamped():
  rounded = round_gaussians([0.0, 1e300, -1e300, 0.5], [0.0, 1e300, 1e-300, 0.0])
  mean, scale = rounded.values()
  np.testing.assert_array_equal(mean, [0, 2**24, -(2**24), 0.5])
  np.testing.assert_array_equal(scale, [2**-8, 2**12, 2**-8, 2**-8])
  mean, scale = round_gaussians([-1e9, 1e9], [0.0, 3.0], Support(0, 255, -32)).values()
  np.testing.assert_array_equal(mean, [0, 255])  # certain, both of them
  np.testing.assert_array_equal(scale, [2**-4, 2**-4])


def relative_entropy(mean, scale):
  """In bits, of the integers' exact masses and those after rounding, [n]."""
  x = np.rint(mean)[:, None] + np.arange(-250, 251)
  below, above = ((x + side - mean[:, None]) / scale[:, None] for side in (-0.5, 0.5))
  p = np.exp(log_ndtr(np.minimum(above, -below))) - np.exp(log_ndtr(np.minimum(below, -above)))
  p = abs(p)
  new_mean, new_scale = (v[:, None] for v in round_gaussians(mean, scale).values())
  below, above = ((x + side - new_mean) / new_scale for side in (-0.5, 0.5))
  flip = below > 0
  below, above = np.where(flip, -above, below), np.where(flip, -below, above)
  log_above = log_ndtr(above)
  log_q = log_above + np.log(-np.expm1(np.minimum(log_ndtr(below) - log_above, -1e-300)))
  seen = p > 1e-12
  return np.where(seen, p * (np.log(np.where(seen, p, 1)) - log_q), 0).sum(1) / math.log(2)


@pytest.mark.parametrize('octave', [-8, -6, -4, -2, 0, 1, 2, 3, 4])
def test_rounding_costs_three_thousandths_of_a_bit(octave):
  rng = np.random.default_rng(octave + 8)
  cost = relative_entropy(rng.uniform(-20, 20, 3000), 2.0 ** (octave + rng.random(3000)))
  assert cost.mean() < 0.0033
  assert cost.max() < 0.015


def test_rounding_logits_costs_less_than_a_thousandth_of_a_bit():
  logits = np.linspace(-20, 20, 100_001)
  p = 1 / (1 + np.exp(-logits))
  q = grid.PROBABILITIES[grid.logit_index(logits)]
  cost = p * np.log2(p / q) + (1 - p) * np.log2((1 - p) / (1 - q))
  assert cost[abs(logits) < 1].mean() < 0.001
  assert cost.max() < 0.003
  assert cost[abs(logits) > 8].max() < 0.00015

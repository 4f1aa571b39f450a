"""Losses, gradients, samples and reconstructions are what they were when they were recorded.

To the tolerance of another CPU, whose convolutions add in another order. Whole numbers are exact.
`python -m tests.golden.record values` records them again.
"""

import json
import os

import numpy as np
import pytest

from tests.golden import measure
from tests.golden.record import summary

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, 'values.json')) as f:
  RECORDED = json.load(f)
RELATIVE, ABSOLUTE = 2e-3, 2e-4  # of the norm or the largest value of what is compared


def compare(group, name, found):
  prefix = f'{group}/{name}: '
  expected = {key.removeprefix(prefix): value for key, value in RECORDED.items()
              if key.startswith(prefix)}
  found = {key.removeprefix(prefix): value for key, value in summary(
      {prefix + what: value for what, value in found.items()}).items()}
  assert expected, f'record it: python -m tests.golden.record values {name}'
  assert found.keys() == expected.keys()
  for what, values in expected.items():
    scale = np.abs(values).max(initial=0)
    np.testing.assert_allclose(
        found[what], values, rtol=RELATIVE, atol=ABSOLUTE * (1 + scale), err_msg=what)


@pytest.mark.parametrize('name', measure.EXPERIMENTS)
def test_loss_and_gradients_of_a_step(name):
  compare('experiments', name, measure.experiment(name))


@pytest.mark.parametrize('name', measure.MODELS)
def test_terms_samples_and_reconstructions(name):
  compare('models', name, measure.packaged(name))

"""Strict settings of JAX and Python: promotion of types and ranks, warnings, transfers."""

import subprocess
import sys

import pytest

from tests.program import ROOT, environment


@pytest.mark.parametrize('variables', [
    dict(JAX_NUMPY_RANK_PROMOTION='raise', JAX_NUMPY_DTYPE_PROMOTION='strict'),
    dict(PYTHONWARNINGS='error')], ids=['promotion', 'warnings'])
def test_models_codec_and_training_keep_strict_settings(variables):
  """`strict` sets the transfer guard itself."""
  found = subprocess.run(
      [sys.executable, '-m', 'tests.strict'], cwd=ROOT, env=environment(**variables), text=True,
      stderr=subprocess.PIPE, timeout=1200)
  assert found.returncode == 0, found.stderr[-4000:]

"""JAX's and Python's strict settings, under which some teams run all of their programs."""

import subprocess
import sys

import pytest

from tests.program import ROOT, environment

# Of other libraries, when they are imported or among themselves.
OTHERS = ()


@pytest.mark.parametrize('variables', [
    dict(JAX_NUMPY_RANK_PROMOTION='raise', JAX_NUMPY_DTYPE_PROMOTION='strict'),
    dict(PYTHONWARNINGS=','.join(('error', *OTHERS)))], ids=['promotion', 'warnings'])
def test_models_codec_and_training_keep_strict_settings(variables):
  """And that of transfers, where the program `strict` says so."""
  found = subprocess.run(
      [sys.executable, '-m', 'tests.strict'], cwd=ROOT, env=environment(**variables), text=True,
      stderr=subprocess.PIPE, timeout=1200)
  assert found.returncode == 0, found.stderr[-4000:]

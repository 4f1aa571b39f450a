"""Deprecation warnings caused by this project fail tests; those between libraries do not."""

import warnings

import pytest

WARNINGS = pytest.mark.parametrize(
    'category', [DeprecationWarning, PendingDeprecationWarning, FutureWarning])


def warn(category, module):
  warnings.warn_explicit('it is old', category, 'file.py', 1, module=module)


@WARNINGS
@pytest.mark.parametrize('module', [
    'conv_draw', 'conv_draw.model.layers', 'experiments.digits', 'benchmarks.step', __name__])
def test_warnings_of_our_modules_are_errors(category, module):
  with pytest.raises(category, match='it is old'):
    warn(category, module)


@WARNINGS
@pytest.mark.parametrize('module', ['jax.numpy', 'orbax.checkpoint', 'conv_drawing', 'testsuite'])
def test_warnings_of_others_are_not(category, module):
  with warnings.catch_warnings():
    warnings.showwarning = lambda *_, **__: None  # not in pytest's summary
    warn(category, module)

"""Warnings about calls of ours fail tests; those that libraries cause among themselves do not."""

import warnings

import pytest

WARNINGS = pytest.mark.parametrize(
    'category', [DeprecationWarning, PendingDeprecationWarning, FutureWarning])


def warn(category, module):
  warnings.warn_explicit('it is old', category, 'file.py', 1, module=module)


@WARNINGS
@pytest.mark.parametrize('module', [
    'conv_draw', 'conv_draw.model.layers', 'experiments.digits', 'benchmarks.step', __name__])
def test_what_our_modules_cause_is_an_error(category, module):
  with pytest.raises(category, match='it is old'):
    warn(category, module)


@WARNINGS
@pytest.mark.parametrize('module', ['jax.numpy', 'orbax.checkpoint', 'conv_drawing', 'testsuite'])
def test_what_others_cause_is_none(category, module):
  with warnings.catch_warnings():
    warnings.showwarning = lambda *_, **__: None  # in no summary
    warn(category, module)

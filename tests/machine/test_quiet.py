"""Which messages of libraries are suppressed."""

import logging as py_logging
import sys
import types

import pytest
from absl import logging

from conv_draw.machine import quiet


@pytest.fixture
def said(monkeypatch):
  """Messages of the previous hook."""
  for logger in (logging.get_absl_logger(), py_logging.getLogger('asyncio')):
    monkeypatch.setattr(logger, 'filters', [])
  messages = []
  monkeypatch.setattr(sys, 'unraisablehook', lambda u: messages.append(str(u.exc_value)))
  return messages


def passes(logger, path, error=None):
  record = py_logging.LogRecord(
      'x', py_logging.ERROR, path, 1, 'failed', (), error and (type(error), error, None))
  return bool(logger.filter(record))


def test_errors_that_the_program_reports_are_suppressed(said, monkeypatch):
  absl, asyncio = logging.get_absl_logger(), py_logging.getLogger('asyncio')
  inside, status = '/lib/orbax/checkpoint/x.py', ValueError('OUT_OF_RANGE: 3 bytes')
  assert passes(absl, inside, status) and passes(asyncio, '/lib/x.py', status)
  for _ in range(2):  # repeated calls change nothing
    quiet.say_errors_once()
  assert len(absl.filters) == len(asyncio.filters) == 1
  assert not passes(absl, inside, status) and not passes(asyncio, '/lib/x.py', status)
  # Not so messages without an error, of other libraries or of another kind,
  assert passes(absl, inside) and passes(absl, '/lib/jax/x.py', status)
  assert passes(asyncio, '/lib/x.py', ValueError('seven')) and passes(asyncio, '/lib/x.py')
  monkeypatch.setattr(logging, 'level_debug', lambda: True)  # nor with --verbosity=1.
  assert passes(absl, inside, status) and passes(asyncio, '/lib/x.py', status)


def test_messages_of_threads_about_closed_loops_are_suppressed(said):
  quiet.say_errors_once()
  quiet.say_errors_once()
  for message in ('Event loop is closed', 'disk is full'):
    sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(message)))
  assert said == ['disk is full']

"""Filters for messages of libraries about errors that the program itself reports."""

import logging as py_logging
import re
import sys

from absl import logging


def say_errors_once() -> None:
  """Suppresses, in the whole process, messages that repeat an error.

  Orbax logs an error that it raises with a traceback in each of its threads. If an array cannot be
  read or written, asyncio logs the errors of the other arrays as never retrieved, or TensorStore's
  threads print "Event loop is closed". --verbosity=1 shows what is logged. Only programs call this:
  a library must leave loggers alone.
  """
  logging.get_absl_logger().addFilter(_not_of_orbax)
  py_logging.getLogger('asyncio').addFilter(_not_of_tensorstore)
  if sys.unraisablehook is not _ignore_closed_loops:
    _ignore_closed_loops.before = sys.unraisablehook
    sys.unraisablehook = _ignore_closed_loops


def _not_of_orbax(record):
  return logging.level_debug() or not record.exc_info or '/orbax/' not in record.pathname


def _not_of_tensorstore(record):
  error = record.exc_info[1] if record.exc_info else None
  status = isinstance(error, ValueError) and re.match('[A-Z_]+: ', str(error))  # OUT_OF_RANGE: …
  return logging.level_debug() or not status


def _ignore_closed_loops(unraisable):
  if str(unraisable.exc_value) != 'Event loop is closed':
    _ignore_closed_loops.before(unraisable)

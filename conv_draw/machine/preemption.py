"""SIGTERM, which schedulers send before they take a machine away: save, then leave."""

import contextlib
import signal
import threading

import jax
from jax.experimental import multihost_utils

from conv_draw.errors import Preempted


def leave_at_once():
  """From here on SIGTERM raises `Preempted`, wherever the program is: there is nothing to save."""
  if _signals_come_here():
    signal.signal(signal.SIGTERM, _leave)


@contextlib.contextmanager
def noted():
  """Inside, SIGTERM is only noted; yields a function of the step that tells whether it came.

  With several processes, all of them are told so at the same step, whichever got the signal.
  """
  if jax.process_count() > 1:
    # JAX's own service has the signal; it picks a step that no process has passed.
    yield multihost_utils.reached_preemption_sync_point
    return
  if not _signals_come_here():
    yield lambda step: False
    return
  came = threading.Event()
  before = signal.signal(signal.SIGTERM, lambda number, frame: came.set())
  try:
    yield lambda step: came.is_set()
  finally:
    signal.signal(signal.SIGTERM, before)


def _leave(number, frame):
  del number, frame
  raise Preempted('ended by SIGTERM; all that was trained is saved: the same command continues')


def _signals_come_here():
  return threading.current_thread() is threading.main_thread()

"""SIGTERM, which schedulers send before they take a machine away, and Ctrl-C: save, then leave."""

import contextlib
import os
import signal
import threading

from conv_draw.errors import Preempted
from conv_draw.machine import ending

STATUSES = {signal.SIGTERM: Preempted.STATUS, signal.SIGINT: 130}  # the latter as shells have it
NAMES = {signal.SIGTERM: 'SIGTERM', signal.SIGINT: 'Ctrl-C'}

_program = None  # whose end it is; None: no one has called `leave_at_once`
_pipe = None  # its end that the numbers of signals are written to, for `_watch`
_came = None  # inside `noted`, the signals that came; outside of it, None
_last = signal.SIGTERM  # of those noted


def leave_at_once(program):
  """From here on SIGTERM and Ctrl-C end the process, wherever it is, in one line of `program`'s.

  A thread waits for them: Python's own handlers run in the main thread, after the call that it is
  in, which may compile for minutes. SIGINT is left alone if it is ignored, as with nohup.
  """
  global _program, _pipe
  if not _signals_come_here():
    return
  if _program is None:
    reader, _pipe = os.pipe()
    os.set_blocking(_pipe, False)
    signal.set_wakeup_fd(_pipe, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
  _program = program
  for number in _heard():
    signal.signal(number, _handle)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, STATUSES)  # `startup` restarts with them blocked


@contextlib.contextmanager
def noted():
  """Inside, both are only noted; yields a function of the step that tells whether one came.

  A second Ctrl-C ends the process at once. What came and was not answered by the end of the block
  raises `Preempted` there. With several processes, all of them are told so at the same step,
  whichever got the signal.
  """
  global _came
  import jax  # pylint: disable=g-import-not-at-top; programs call `leave_at_once` before it
  from jax.experimental import multihost_utils  # pylint: disable=g-import-not-at-top
  several = jax.process_count() > 1
  if not _signals_come_here():
    yield multihost_utils.reached_preemption_sync_point if several else lambda step: False
    return
  # JAX's own service has several processes' SIGTERM; it picks a step that none has passed.
  taken = _heard() - ({signal.SIGTERM} if several else set())
  before = {number: signal.signal(number, _handle) for number in taken}
  _came = came = []
  try:
    if several:
      yield multihost_utils.reached_preemption_sync_point
    else:
      yield lambda step: bool(came)
  finally:
    _came = None
    for number, handler in before.items():
      signal.signal(number, handler)
    if several and _program:
      signal.signal(signal.SIGTERM, _handle)  # from now on each of them leaves at once
  if came and not several:
    raise Preempted('told to end when all was saved: the same command continues')


def status():
  """The exit status for a `Preempted`: of the signal that was noted last."""
  return STATUSES[_last]


def _heard():
  """The signals that are this program's: not those that whoever started it has switched off."""
  return {number for number in STATUSES if signal.getsignal(number) is not signal.SIG_IGN}


def _handle(number, frame):
  """In the main thread."""
  global _came, _last
  del frame
  if _came is not None:
    _last = number
    if number == signal.SIGINT and number in _came:
      if _program is None:
        raise KeyboardInterrupt
      _came = None  # at once
    else:
      _came.append(number)
      import jax  # pylint: disable=g-import-not-at-top
      if number == signal.SIGINT and jax.process_count() > 1:
        signal.raise_signal(signal.SIGTERM)  # which JAX's service listens to
  if _came is None:  # said once more: if `noted` has just ended, `_watch` came too early for it
    os.write(_pipe, bytes([number]))


def _watch(reader):
  """In a thread of its own: the bytes are the numbers of the signals that come."""
  while number := os.read(reader, 1):
    if _came is None and number[0] in STATUSES:
      ending.end(_program, f'ended by {NAMES[number[0]]}, with nothing half-written: the same '
                 'command starts again or continues', STATUSES[number[0]])


def _signals_come_here():
  return threading.current_thread() is threading.main_thread()

"""SIGTERM (which schedulers send before preemption) and Ctrl-C: save, then exit."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from conv_draw.errors import Preempted
from conv_draw.machine import ending

STATUSES = {signal.SIGTERM: Preempted.STATUS, signal.SIGINT: 130}  # 130 as in shells
NAMES = {signal.SIGTERM: 'SIGTERM', signal.SIGINT: 'Ctrl-C'}

_program = None  # the name for messages; None before `leave_at_once`
_pipe = None  # the writing end of the pipe that `_watch` reads
_came = None  # the signals received inside `noted`; None outside of it
_last = signal.SIGTERM  # the last signal received inside `noted`


def leave_at_once(program: str) -> None:
  """From now on SIGTERM and Ctrl-C end the process at once, with one line from `program`.

  A thread waits for the signals: Python's own handlers run in the main thread after its current
  call, which may compile for minutes. Ignored signals, such as SIGINT under nohup, stay ignored.
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
  signal.pthread_sigmask(signal.SIG_UNBLOCK, STATUSES)  # `startup` blocks them


@contextlib.contextmanager
def noted() -> Iterator[Callable[[int], bool]]:
  """Context that records the signals; yields a function of the step: whether one was received.

  A second Ctrl-C ends the process at once. At the end of the block, a signal raises `Preempted`.
  With several processes, the function returns true in all of them at the same step, whichever
  process received the signal.
  """
  global _came
  import jax  # pylint: disable=g-import-not-at-top; programs call `leave_at_once` before it
  from jax.experimental import multihost_utils  # pylint: disable=g-import-not-at-top
  several = jax.process_count() > 1
  if not _signals_come_here():
    yield multihost_utils.reached_preemption_sync_point if several else lambda step: False
    return
  # With several processes JAX handles SIGTERM and picks a step that none has passed.
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
      signal.signal(signal.SIGTERM, _handle)  # in place of JAX's handler
  if came and not several:
    raise Preempted('told to end when all was saved: the same command continues')


def status() -> int:
  """The exit status for a `Preempted`, by the last signal."""
  return STATUSES[_last]


def _heard():
  """The signals that are not ignored."""
  return {number for number in STATUSES if signal.getsignal(number) is not signal.SIG_IGN}


def _handle(number, frame):
  """The signal handler; runs in the main thread."""
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
        signal.raise_signal(signal.SIGTERM)  # which JAX handles
  if _came is None:  # repeat it: `_watch` ignored it if `noted` had not ended yet
    os.write(_pipe, bytes([number]))


def _watch(reader):
  """The thread that ends the process; reads the numbers of the signals as bytes."""
  while number := os.read(reader, 1):
    if _came is None and number[0] in STATUSES:
      ending.end(_program, f'ended by {NAMES[number[0]]}, with nothing half-written: the same '
                 'command starts again or continues', STATUSES[number[0]])


def _signals_come_here():
  return threading.current_thread() is threading.main_thread()

"""The end of this process here and now, from any thread: one line on stderr and a status."""

import contextlib
import os
import sys
import threading
import time

from conv_draw.machine import files

_begun = threading.Event()
others_wait = False  # whether this is one of several processes, which wait for each other


def end(program, message, status):
  """Says `PROGRAM: message`, and the process is over, whatever its other threads are doing.

  Not by an exception or `sys.exit`: an exception that is raised while XLA works, or is being taken
  down, can crash the process, and what runs at exit may wait for other hosts. Files and directories
  of `files.scratch` are removed; what was printed to stdout before comes out.
  """
  if _begun.is_set():
    wait_if_begun()
  _begun.set()
  files.remove_scratch()
  flush = threading.Thread(target=_flush, daemon=True)
  flush.start()
  flush.join(1)  # where stdout is a pipe that no one reads, longer would not help
  text = ' '.join(f'{program}: {message}'.split())
  start = '\n' if sys.stderr.isatty() else ''  # on a terminal a progress bar, or ^C, stands there
  with contextlib.suppress(OSError):
    os.write(2, f'{start}{text}\n'.encode(errors='backslashreplace'))
  os._exit(status)


def wait_if_begun():
  """Never returns once `end` has begun: no other thread is to speak of what it meets by that."""
  while _begun.is_set():
    time.sleep(1)


def _flush():
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush()

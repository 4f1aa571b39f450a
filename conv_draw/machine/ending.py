"""Ends this process from any thread, with one line on stderr and a status."""

import contextlib
import os
import sys
import threading
import time

from conv_draw.machine import files

_begun = threading.Event()
others_wait = False  # whether other processes train with this one and wait for it


def end(program: str, message: str, status: int) -> None:
  """Prints `PROGRAM: message` and ends the process at once, whatever its other threads do.

  Uses `os._exit`: an exception while XLA works or shuts down can crash the process, and exit
  handlers may wait for other hosts. Removes the files of `files.scratch` and flushes stdout.
  """
  if _begun.is_set():
    wait_if_begun()
  _begun.set()
  files.remove_scratch()
  flush = threading.Thread(target=_flush, daemon=True)
  flush.start()
  flush.join(1)  # stdout may be a pipe that nobody reads
  text = ' '.join(f'{program}: {message}'.split())
  start = '\n' if sys.stderr.isatty() else ''  # after a progress bar or ^C
  with contextlib.suppress(OSError):
    os.write(2, f'{start}{text}\n'.encode(errors='backslashreplace'))
  os._exit(status)


def wait_if_begun() -> None:
  """Blocks forever once `end` has begun, so that no other thread reports errors caused by it."""
  while _begun.is_set():
    time.sleep(1)


def _flush():
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush()

"""Standard input, output and error that are closed, full or terminals."""

import os
import sys
from typing import TextIO

from conv_draw.errors import UserError

_NAMES = {'stdin': 'standard input', 'stdout': 'standard output', 'stderr': 'standard error'}
_closed = set()  # names of the streams that `complete` has replaced


def complete() -> None:
  """Opens the null device in place of each standard stream that was closed at the start.

  Otherwise the next opened file would get the stream's number, and with it the output of C
  libraries. Must be called before the program opens a file.
  """
  for name in _NAMES:
    if getattr(sys, name) is None:
      fd = os.open(os.devnull, os.O_RDWR)
      os.set_inheritable(fd, True)  # as standard streams are
      # closefd=False: it stays open to the end, and `python -W error` would complain.
      setattr(sys, name, open(fd, 'r' if name == 'stdin' else 'w', closefd=False))
      _closed.add(name)


def check_for_bytes(name: str) -> None:
  """Raises `UserError` if the stream of that name is closed or a terminal."""
  if name in _closed:
    raise UserError(f'{_NAMES[name]} is closed: name a file in place of -')
  if getattr(sys, name).isatty():
    raise UserError(
        f'{_NAMES[name]} is a terminal, and a file is not text: name a file in place of -, or use '
        'a pipe')


def discard_output(*outputs: TextIO) -> None:
  """Discards buffered and later output of these streams; by default of stdout and stderr."""
  null = os.open(os.devnull, os.O_WRONLY)
  for stream in outputs or (sys.stdout, sys.stderr):
    os.dup2(null, stream.fileno())

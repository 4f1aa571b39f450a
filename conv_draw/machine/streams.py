"""Standard input, output and error, whatever the program was started with."""

import os
import sys

from conv_draw.errors import UserError

_NAMES = {'stdin': 'standard input', 'stdout': 'standard output', 'stderr': 'standard error'}
_closed = set()  # the names of those that `complete` has replaced


def complete():
  """Opens the null device in place of each stream that was closed when the program started.

  Python has None there. The next file to be opened would take the number of a closed stream, and
  with it all that C libraries print. To be called before the program opens anything.
  """
  for name in _NAMES:
    if getattr(sys, name) is None:
      fd = os.open(os.devnull, os.O_RDWR)
      os.set_inheritable(fd, True)  # as other standard streams are
      # It stays open to the end, which `python -W error` would complain of.
      setattr(sys, name, open(fd, 'r' if name == 'stdin' else 'w', closefd=False))
      _closed.add(name)


def check_for_bytes(name):
  """Raises `UserError` if the stream of that name cannot bring or take the bytes of a file."""
  if name in _closed:
    raise UserError(f'{_NAMES[name]} is closed: name a file in place of -')
  if getattr(sys, name).isatty():
    raise UserError(
        f'{_NAMES[name]} is a terminal, and a file is not text: name a file in place of -, or use '
        'a pipe')


def discard_output(*outputs):
  """Drops what these streams still hold, and what is yet to be printed there; default: both."""
  null = os.open(os.devnull, os.O_WRONLY)
  for stream in outputs or (sys.stdout, sys.stderr):
    os.dup2(null, stream.fileno())

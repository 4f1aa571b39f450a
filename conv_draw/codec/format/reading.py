"""A file's bytes, no more of them than the format allows."""

import os

from conv_draw.errors import UserError, reason

MAX_FILE = 2**31  # bytes


def check_size(path, data):
  """Raises `UserError` for more bytes than `read_file` reads."""
  if len(data) > MAX_FILE:
    raise UserError(
        f'{path} would have {len(data)} bytes, more than the {MAX_FILE} that are read: use '
        'several files')


def read_file(path, what='a file of the codec'):
  """The bytes of a file, or of a pipe; `what` it should be, for messages.

  Raises:
    UserError: there is none, it is not readable, or it has more than `MAX_FILE` bytes.
  """
  parts, size = [], 0
  try:
    with open(path, 'rb') as f:
      if os.fstat(f.fileno()).st_size > MAX_FILE:
        raise _too_long(path)
      while part := f.read(2**20):  # in parts: a pipe does not say how much is to come
        parts.append(part)
        size += len(part)
        if size > MAX_FILE:
          raise _too_long(path)
  except FileNotFoundError:
    raise UserError(f'{path} does not exist: name {what}') from None
  except OSError as e:
    raise UserError(
        f'{path} cannot be read ({reason(e)}): name a file that can be') from None
  return b''.join(parts)


def _too_long(path):
  return UserError(
      f'{path} has more than {MAX_FILE} bytes, which no file of this codec does: name another')

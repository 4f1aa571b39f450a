"""Files that are written whole or not at all."""

import contextlib
import os
import secrets

from conv_draw.errors import UserError, reason


def write_file(path, data, overwrite=True):
  """Writes bytes or text (as UTF-8) to a file, whole or not at all, and on the disk on return.

  Args:
    overwrite: whether it may replace a file.
  Raises:
    UserError: it cannot be written, or not over what is there; what was there before still is.
  """
  if not overwrite and os.path.lexists(path):
    raise UserError(f'{path} would be overwritten: name another place, or say --overwrite')
  target = os.path.realpath(path)  # a link stays one
  if os.path.exists(target) and not os.path.isfile(target):
    raise UserError(f'{path} is not a regular file: name another')  # /dev/null would be replaced
  data = data.encode() if isinstance(data, str) else data
  # Not tempfile: its files are the owner's alone, and stay so.
  temporary = os.path.join(os.path.dirname(target), f'.cdraw-{secrets.token_hex(8)}.tmp')
  try:
    try:
      with open(temporary, 'xb') as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
      os.replace(temporary, target)
    except BaseException:  # of any kind: an interrupt leaves nothing behind either
      with contextlib.suppress(OSError):
        os.remove(temporary)
      raise
  except OSError as e:
    raise UserError(
        f'{path} cannot be written ({reason(e)}): name a place that can be written to and '
        'has room') from None

"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
import shutil
import threading

from conv_draw.errors import UserError, reason

_guard = threading.Lock()  # whoever holds it may make, name and remove scratch
_scratch = set()  # paths of files and directories that no one would miss


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
    with scratch(temporary):
      with _guard:
        f = open(temporary, 'xb')
      with f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
      with _guard:
        os.replace(temporary, target)
  except OSError as e:
    raise UserError(
        f'{path} cannot be written ({reason(e)}): name a place that can be written to and '
        'has room') from None


@contextlib.contextmanager
def scratch(path):
  """Around the work on a file or directory of passing use: what is there at the end is removed.

  At the end of the block, also by an exception, or when `remove_scratch` says that it is over.
  """
  with _guard:
    _scratch.add(path)
  try:
    yield path
  finally:
    with _guard:
      _remove(path)
      _scratch.discard(path)


def remove_scratch(wait=5):
  """For a process that ends here and now: removes what `scratch` names, of whichever thread.

  From then on no other thread can make, rename or remove any: those that try wait for the end.

  Args:
    wait: seconds for a thread that is just renaming a file, on a disk that does not answer, say.
  """
  _guard.acquire(timeout=wait)  # and never released
  for path in list(_scratch):
    for _ in range(10):  # another thread may be writing into a directory
      _remove(path)
      if not os.path.lexists(path):
        break


def _remove(path):
  with contextlib.suppress(OSError):
    os.remove(path)
  if os.path.isdir(path):
    shutil.rmtree(path, ignore_errors=True)

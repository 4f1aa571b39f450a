"""Files that are written whole or not at all."""

import contextlib
import functools
import os
import secrets
import shutil
import stat
import threading

from conv_draw.errors import UserError, reason

_guard = threading.Lock()  # whoever holds it may make, name and remove scratch
_scratch = set()  # paths of files and directories that no one would miss


def write_file(path, data, overwrite=True):
  """Writes bytes or text (as UTF-8) to a file, whole or not at all, and on the disk on return.

  A file that is replaced keeps its permissions, and its owner and group if the process may set
  them; of its extended attributes and access lists, nothing.

  Args:
    overwrite: whether it may replace a file.
  Raises:
    UserError: it cannot be written, or not over what is there; what was there before still is.
  """
  if not overwrite and os.path.lexists(path):
    raise UserError(f'{path} would be overwritten: name another place, or say --overwrite')
  target = os.path.realpath(path)  # a link stays one
  before = os.stat(target) if os.path.exists(target) else None
  if before and not stat.S_ISREG(before.st_mode):
    raise UserError(f'{path} is not a regular file: name another')  # /dev/null would be replaced
  data = data.encode() if isinstance(data, str) else data
  # A new file is for whom the umask says; one that replaces another is at first the owner's alone.
  opener = functools.partial(os.open, mode=0o600 if before else 0o666)
  temporary = os.path.join(os.path.dirname(target), f'.cdraw-{secrets.token_hex(8)}.tmp')
  try:
    with scratch(temporary):
      with _guard:
        f = open(temporary, 'xb', opener=opener)
      with f:
        if before:
          _permit(f.fileno(), before)
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
      with _guard:
        os.replace(temporary, target)
  except OSError as e:
    raise UserError(
        f'{path} cannot be written ({reason(e)}): name a place that can be written to and '
        'has room') from None


def _permit(fd, like):
  """Gives an open file the owner, group and permissions of a stat result.

  Permissions of an owner or group that it cannot be given are left out, and where file systems have
  none it stays as it is.
  """
  mode = stat.S_IMODE(like.st_mode)
  for owner, group, theirs in (
      (like.st_uid, -1, stat.S_ISUID), (-1, like.st_gid, stat.S_ISGID | stat.S_IRWXG)):
    try:
      os.fchown(fd, owner, group)
    except OSError:
      mode &= ~theirs
  with contextlib.suppress(OSError):
    os.fchmod(fd, mode)


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

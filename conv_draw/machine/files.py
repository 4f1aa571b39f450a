"""Atomic writes, and temporary files that are removed however the program ends."""

import contextlib
import functools
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator

from conv_draw.errors import UserError, reason

_guard = threading.Lock()  # held to create, rename or remove temporary files
_scratch = set()  # paths of temporary files and directories


def write_file(path: str | os.PathLike, data: bytes | str, overwrite: bool = True) -> None:
  """Writes bytes or text (as UTF-8) to a file atomically and flushes it to the disk.

  A replaced file keeps its permissions, and its owner and group if the process may set them, but
  not its extended attributes and access lists.

  Args:
    overwrite: whether an existing file may be replaced.
  Raises:
    UserError: the file cannot be written or must not be replaced; it is unchanged.
  """
  if not overwrite and os.path.lexists(path):
    raise UserError(f'{path} would be overwritten: name another place, or say --overwrite')
  target = os.path.realpath(path)  # a link stays one
  before = os.stat(target) if os.path.exists(target) else None
  if before and not stat.S_ISREG(before.st_mode):
    raise UserError(f'{path} is not a regular file: name another')  # such as /dev/null
  data = data.encode() if isinstance(data, str) else data
  # A new file has the umask's permissions; a replacement starts with the owner's alone.
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

  If the owner or group cannot be set, their permissions are dropped. File systems without
  permissions are left alone.
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
def scratch(path: str) -> Iterator[str]:
  """Context of a temporary file or directory, removed at the end or by `remove_scratch`."""
  with _guard:
    _scratch.add(path)
  try:
    yield path
  finally:
    with _guard:
      _remove(path)
      _scratch.discard(path)


def remove_scratch() -> None:
  """Removes the files of `scratch` of all threads, before the process ends at once.

  Threads that create, rename or remove temporary files afterwards wait for the end.
  """
  _guard.acquire(timeout=5)  # never released; a disk may keep another thread from releasing it
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

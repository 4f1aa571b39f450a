"""Files are written completely or not at all."""

import os
import stat

import pytest

from conv_draw.errors import UserError
from conv_draw.machine.files import write_file

DATA = bytes(range(256))


def mode(path):
  return stat.S_IMODE(path.stat().st_mode)


def test_new_files_have_the_umasks_permissions_and_links_stay(tmp_path):
  path, link = tmp_path / 'x', tmp_path / 'link'
  before = os.umask(0o027)
  try:
    write_file(path, 'ü')
  finally:
    os.umask(before)
  assert path.read_bytes() == b'\xc3\xbc' and mode(path) == 0o640
  link.symlink_to(path)
  write_file(link, DATA)
  assert link.is_symlink() and path.read_bytes() == DATA
  assert sorted(os.listdir(tmp_path)) == ['link', 'x']


@pytest.mark.parametrize('permissions', [0o600, 0o644, 0o444])
def test_a_replaced_file_keeps_its_permissions(tmp_path, permissions):
  path = tmp_path / 'x'
  path.write_bytes(b'before')
  path.chmod(permissions)
  before = path.stat()
  write_file(path, DATA)
  assert path.read_bytes() == DATA and mode(path) == permissions
  assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)


def test_another_group_or_owner_gets_no_permissions(tmp_path, monkeypatch):
  """If the process cannot set them; and at no time can others read the file."""
  path, modes = tmp_path / 'x', []
  path.write_bytes(b'before')
  path.chmod(0o6664)
  fsync = os.fsync

  def fail(fd, *_):
    modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
    raise PermissionError(1, 'Operation not permitted')

  monkeypatch.setattr(os, 'fchown', fail)
  monkeypatch.setattr(
      os, 'fsync', lambda fd: (modes.append(stat.S_IMODE(os.fstat(fd).st_mode)), fsync(fd)))
  write_file(path, DATA)
  assert modes == [0o600, 0o600, 0o604] and mode(path) == 0o604


@pytest.mark.parametrize('function', ['replace', 'fsync'])
@pytest.mark.parametrize('error, shown', [
    (OSError(28, 'No space left on device'), UserError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, function, error, shown):
  def fail(*_):
    raise error

  path = tmp_path / 'x'
  path.write_bytes(b'before')
  monkeypatch.setattr(os, function, fail)
  for target in (path, tmp_path / 'new'):
    with pytest.raises(shown) as raised:
      write_file(target, DATA)
    if shown is UserError:
      assert f'{target} cannot be written (No space left on device)' in str(raised.value)
  assert os.listdir(tmp_path) == ['x'] and path.read_bytes() == b'before'


def test_files_are_replaced_only_if_allowed(tmp_path):
  """Even a link to nothing counts as a file."""
  path, link = tmp_path / 'x', tmp_path / 'link'
  write_file(path, b'before', overwrite=False)
  link.symlink_to(tmp_path / 'none')
  for taken in (path, link):
    with pytest.raises(UserError, match=f'{taken} would be overwritten'):
      write_file(taken, DATA, overwrite=False)
  assert path.read_bytes() == b'before' and sorted(os.listdir(tmp_path)) == ['link', 'x']


def test_only_regular_files_are_replaced(tmp_path):
  fifo = tmp_path / 'fifo'
  os.mkfifo(fifo)
  for path in (tmp_path / 'missing' / 'x', tmp_path, fifo):
    with pytest.raises(UserError, match=str(path)):
      write_file(path, DATA)
  assert stat.S_ISFIFO(fifo.stat().st_mode)

"""Files are written whole or not at all."""

import os
import stat

import pytest

from conv_draw.errors import UserError
from conv_draw.machine.files import write_file

DATA = bytes(range(256))


def test_files_are_written_whole_with_the_usual_permissions(tmp_path):
  path = tmp_path / 'x'
  write_file(path, b'before')
  write_file(path, DATA)
  assert path.read_bytes() == DATA
  assert os.listdir(tmp_path) == ['x']
  (tmp_path / 'plain').write_bytes(b'')
  assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / 'plain').stat().st_mode)
  link = tmp_path / 'link'
  link.symlink_to(path)
  write_file(link, b'through')
  assert link.is_symlink() and path.read_bytes() == b'through'


@pytest.mark.parametrize('mode', [0o600, 0o644, 0o640, 0o444, 0o755])
def test_what_is_replaced_keeps_its_permissions(tmp_path, mode):
  path = tmp_path / 'x'
  path.write_bytes(b'before')
  path.chmod(mode)
  (tmp_path / 'link').symlink_to(path)
  before = path.stat()
  for written in (path, tmp_path / 'link'):
    write_file(written, DATA)
    after = path.stat()
    assert path.read_bytes() == DATA and stat.S_IMODE(after.st_mode) == mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_another_group_or_owner_gets_no_permissions(tmp_path, monkeypatch):
  """Where the process may not give the file away; and at no time may others read it."""
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
  assert modes == [0o600, 0o600, 0o604] and stat.S_IMODE(path.stat().st_mode) == 0o604


def test_new_files_are_as_the_umask_says(tmp_path):
  before = os.umask(0o027)
  try:
    write_file(tmp_path / 'x', DATA)
  finally:
    os.umask(before)
  assert stat.S_IMODE((tmp_path / 'x').stat().st_mode) == 0o640


@pytest.mark.parametrize('function', ['replace', 'fsync'])
@pytest.mark.parametrize('error, shown', [
    (OSError(28, 'No space left on device'), UserError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, function, error, shown):
  def fail(*_):
    raise error

  monkeypatch.setattr(os, function, fail)
  path = tmp_path / 'x'
  with pytest.raises(shown) as raised:
    write_file(path, DATA)
  assert os.listdir(tmp_path) == []
  path.write_bytes(b'before')
  with pytest.raises(shown):
    write_file(path, DATA)
  assert os.listdir(tmp_path) == ['x'] and path.read_bytes() == b'before'
  if shown is UserError:
    assert f'{path} cannot be written (No space left on device)' in str(raised.value)


def test_what_is_there_is_replaced_only_if_it_may_be(tmp_path):
  """Links to nothing count as something."""
  path, link, scratch = (tmp_path / name for name in ('x', 'link', 'x.tmp'))
  write_file(path, b'before', overwrite=False)
  link.symlink_to(tmp_path / 'none')
  scratch.write_bytes(b'of someone else')
  for taken in (path, link):
    with pytest.raises(UserError, match=f'{taken} would be overwritten'):
      write_file(taken, DATA, overwrite=False)
  assert path.read_bytes() == b'before' and scratch.read_bytes() == b'of someone else'
  assert sorted(os.listdir(tmp_path)) == ['link', 'x', 'x.tmp']


def test_text_is_utf_8(tmp_path):
  write_file(tmp_path / 'x', 'ü')
  assert (tmp_path / 'x').read_bytes() == b'\xc3\xbc'


def test_what_is_no_file_is_not_replaced(tmp_path):
  fifo = tmp_path / 'fifo'
  os.mkfifo(fifo)
  for path in (tmp_path / 'missing' / 'x', tmp_path, fifo):
    with pytest.raises(UserError) as error:
      write_file(path, DATA)
    assert str(path) in str(error.value) and '\n' not in str(error.value)
  assert stat.S_ISFIFO(fifo.stat().st_mode)

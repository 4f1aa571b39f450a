"""The files of a folder, and the names of what is made from them."""

import os
import socket

import pytest

from conv_draw.codec import output_paths
from conv_draw.errors import UserError


def test_pipes_sockets_and_devices_are_left_out_of_a_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # the names of sockets are short
  (tmp_path / 'a.png').write_bytes(b'')
  (tmp_path / 'link.png').symlink_to('a.png')
  (tmp_path / 'broken.png').symlink_to('none')  # for whoever reads it to refuse
  (tmp_path / 'folder.png').mkdir()
  os.mkfifo('pipe.png')
  (tmp_path / 'to_pipe.png').symlink_to('pipe.png')
  (tmp_path / 'device.png').symlink_to(os.devnull)
  with socket.socket(socket.AF_UNIX) as server:
    server.bind('socket.png')
    plan = output_paths.plan(tmp_path, 'new', ('.png',), '.cdraw')
  read = [os.path.basename(old) for old, _ in plan.pairs]
  assert read == ['a.png', 'broken.png', 'link.png']
  assert plan.others == ['device.png', 'folder.png', 'pipe.png', 'socket.png', 'to_pipe.png']
  for name in read:
    os.remove(name)
  with pytest.raises(UserError, match='no files that end in .png, but device.png'):
    output_paths.listing(tmp_path, ('.png',))


def test_a_pipe_or_device_that_is_named_is_read_but_not_replaced(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  new = str(tmp_path / 'new')
  assert output_paths.plan(tmp_path / 'pipe', new, ('.png',), '.cdraw').pairs == [
      (str(tmp_path / 'pipe'), new)]
  (tmp_path / 'a.png').write_bytes(b'')
  for special in (tmp_path / 'pipe', os.devnull):
    with pytest.raises(UserError, match=f'{special} is not a regular file'):
      output_paths.plan(tmp_path / 'a.png', special, ('.png',), '.cdraw', overwrite=True)


@pytest.mark.parametrize('names, new', [
    (['a.jpg', 'b.png'], ['a.cdraw', 'b.cdraw']),
    (['a.jpg', 'a.png', 'b.png'], ['a.jpg.cdraw', 'a.png.cdraw', 'b.cdraw']),
    (['a.PNG', 'a.png'], ['a.PNG.cdraw', 'a.png.cdraw']),
    # One name also where upper and lower case are the same.
    (['A.jpg', 'a.png'], ['A.jpg.cdraw', 'a.png.cdraw']),
    # What they become may be taken by another.
    (['a.jpg', 'a.jpg.gif', 'a.png'], ['a.jpg.cdraw', 'a.jpg.gif.cdraw', 'a.png.cdraw']),
    (['a.b.c.d', 'a.b.c', 'a.b', 'a.x'], ['a.b.c.d.cdraw', 'a.b.c.cdraw', 'a.b.cdraw',
                                         'a.x.cdraw'])])
def test_no_two_files_become_one(names, new):
  assert output_paths.renamed(names, '.cdraw') == new


def test_the_terminal_is_no_place_for_files(tmp_path, monkeypatch):
  (tmp_path / 'a.png').write_bytes(b'')
  (tmp_path / '-').write_bytes(b'')
  monkeypatch.chdir(tmp_path)
  arguments = (tmp_path / 'a.png', output_paths.PIPE, ('.png',), '.cdraw')
  # The stream, whatever files are there.
  output_paths.check([tmp_path / 'a.png'], [output_paths.PIPE])
  assert output_paths.plan(*arguments).pairs == [(str(tmp_path / 'a.png'), output_paths.PIPE)]
  monkeypatch.setattr('sys.stdout.isatty', lambda: True)
  for refused in (lambda: output_paths.plan(*arguments),
                  lambda: output_paths.check([], [output_paths.PIPE])):
    with pytest.raises(UserError, match='standard output is a terminal'):
      refused()

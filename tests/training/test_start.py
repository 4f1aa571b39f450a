import os

import pytest

from conv_draw.data import sets
from conv_draw.errors import UserError
from conv_draw.training import loop, start
from experiments import digits
from tests.data.test_identity import fill
from tests.tiny import tiny


def contents(workdir):
  return {os.path.join(directory, name): os.stat(os.path.join(directory, name)).st_mtime_ns
          for directory, _, names in os.walk(workdir) for name in names if name != 'lock'}


def test_a_run_continues_with_its_images_alone_and_others_leave_it_unchanged(tmp_path, capsys):
  config = tiny(digits.get_config())
  folder = fill(tmp_path / 'mine', range(20), 0)
  config.data.update(name='folder', data_dir=str(folder))
  config.train.update(steps=4, checkpoint_every=2)
  workdir = str(tmp_path / 'run')
  loop.train(config, workdir)
  before = contents(workdir)
  config.train.steps = 5
  for size in (12, 8):  # the latter with the same names and shape
    config.data.data_dir = str(fill(tmp_path / f'other_{size}', range(20), 1, size))
    with pytest.raises(UserError, match='train.start_from'):
      loop.train(config, workdir)
    assert contents(workdir) == before
  assert 'left out' not in capsys.readouterr().err
  config.data.data_dir = str(folder)
  fill(folder, range(20, 30), 1)
  os.mkfifo(folder / 'pipe.png')
  assert loop.train(config, workdir).step == 5
  said = capsys.readouterr().err
  assert 'has 27 images, and had 18' in said
  assert f': {folder}' in said  # what is left out


def test_processes_must_have_the_same_images(tmp_path, monkeypatch):
  config = tiny(digits.get_config())
  config.data.update(name='folder', data_dir=str(fill(tmp_path / 'mine', range(20), 0)))
  images = sets.load(config.data, 'train')
  for names, seed, size in ((range(20), 0, 12), (range(21), 0, 8), (range(20), 1, 8)):
    other = config.data.copy_and_resolve_references()
    other.data_dir = str(fill(tmp_path / f'{len(names)}_{seed}_{size}', names, seed, size))
    theirs = [None, start.identity.of(sets.load(other, 'train'))]
    monkeypatch.setattr(start.hosts, 'from_primary', lambda value, theirs=theirs: theirs)
    with pytest.raises(UserError, match='process 0'):
      start._check_images(str(tmp_path / 'run'), images)

"""Modes in this process; tests/test_launch.py runs the program."""

import os

import pytest

from conv_draw.data import sets
from conv_draw.report import modes


@pytest.fixture
def opened(monkeypatch):
  """The splits that have been opened, in order."""
  splits, load = [], sets.load
  monkeypatch.setattr(
      sets, 'load', lambda data, split: splits.append(split) or load(data, split))
  return splits


def test_each_split_is_opened_once_and_only_if_needed(config, tmp_path, opened):
  config.train.evaluate_every = 5
  workdir = str(tmp_path / 'run')
  modes.run('train', config, workdir)
  assert sorted(opened) == ['test', 'train']
  for mode, needed in (('evaluate', ['test', 'train']), ('sample', ['test'])):
    opened.clear()
    modes.run(mode, config, workdir)
    assert sorted(opened) == needed, mode
  opened.clear()
  modes.run_several('figures', [workdir])
  modes.run_several('table', [workdir])
  assert opened == []
  assert os.path.exists(tmp_path / 'figures' / 'figure_5.png')


def test_evaluation_of_a_read_only_run_says_so(capsys, monkeypatch, tmp_path):
  def refuse(path):
    raise PermissionError(13, 'Permission denied', path)

  monkeypatch.setattr(modes.metrics_lib, '_end_last_line', refuse)
  metrics = modes._metrics(str(tmp_path))
  metrics.event(3, 'baseline', nats=1.0)
  metrics.close()
  assert os.listdir(tmp_path) == []
  assert f'{tmp_path} cannot be written (Permission denied)' in capsys.readouterr().err

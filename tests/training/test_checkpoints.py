import errno
import logging as py_logging
import os
import shutil
import sys

import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging

from conv_draw.errors import UserError
from conv_draw.training import checkpoints
from conv_draw.training.loss_monitor import LossMonitor
from conv_draw.training.steps import TrainState


def state_at(step):
  noise = np.random.default_rng(step).normal(size=(40, 40)).astype(np.float32)
  return TrainState(np.int32(step), np.int32(0), {'w': noise}, None, None)


def save(workdir, *numbers):
  opened = checkpoints.Checkpoints(workdir, validated_after=50)
  for step in numbers:
    opened.save(state_at(step), LossMonitor([1.0, float(step)]))
  opened.close()


@pytest.fixture
def two(tmp_path):
  """A workdir with checkpoints 1 and 2."""
  workdir = str(tmp_path / 'two')
  save(workdir, 1, 2)
  return workdir


def files(directory):
  """Relative path -> contents of all files."""
  found = {}
  for folder, _, names in os.walk(directory):
    for name in names:
      path = os.path.join(folder, name)
      with open(path, 'rb') as f:
        found[os.path.relpath(path, directory)] = f.read()
  return found


def newest(workdir, validated_after=50):
  """(step, warnings) of `restore_newest`, which must restore what was saved."""
  warnings = []
  opened = checkpoints.Checkpoints(workdir, validated_after)
  try:
    state, monitor = opened.restore_newest(state_at(0), warnings.append)
  finally:
    opened.close()
  step = int(state.step)
  np.testing.assert_array_equal(state.params['w'], state_at(step).params['w'])
  assert monitor == LossMonitor([1.0, float(step)])
  return step, warnings


def test_loggers_and_hooks_of_the_process_are_left_alone(two, monkeypatch):
  loggers = [logging.get_absl_logger(), py_logging.getLogger('asyncio'), py_logging.getLogger()]
  for logger in loggers:  # another test may have run a command line
    monkeypatch.setattr(logger, 'filters', [])
  monkeypatch.setattr(sys, 'unraisablehook', sys.__unraisablehook__)
  now = lambda: ([(list(x.filters), list(x.handlers), x.level) for x in loggers],
                 sys.unraisablehook)
  before = now()
  save(two, 3)
  newest(two)
  params, step = checkpoints.restore_params(two, state_at(0))
  np.testing.assert_array_equal(params['w'], state_at(3).params['w'])
  assert step == 3 and now() == before


def halve(path):
  os.truncate(path, os.path.getsize(path) // 2)


def flip(path):
  with open(path, 'rb') as f:
    data = bytearray(f.read())
  if b'params' in data:  # in _METADATA not every byte counts
    data = data.replace(b'params', b'parans')
  else:
    data[len(data) // 2] ^= 16
  with open(path, 'wb') as f:
    f.write(data)


def no_text(path):
  """Bytes that are not UTF-8, where Orbax reads text."""
  with open(path, 'r+b') as f:
    f.seek(os.path.getsize(path) // 2)
    f.write(b'\xb9')


@pytest.mark.parametrize('damage', [halve, flip, no_text, os.remove])
@pytest.mark.parametrize('where', ['state/_METADATA', 'state/manifest.ocdbt', 'health/metadata',
                                   'the largest'])
def test_damage_anywhere_is_found_named_and_moved_aside(two, damage, where):
  checkpoint = f'{two}/checkpoints/2'
  if where == 'the largest':
    sizes = {path: len(data) for path, data in files(checkpoint).items()}
    where = max(sizes, key=sizes.get)
  damage(f'{checkpoint}/{where}')
  damaged = files(checkpoint)
  step, (warning,) = newest(two, validated_after=None)
  assert step == 1 and 'moved' not in warning and files(checkpoint) == damaged  # read-only
  step, (warning,) = newest(two)
  assert step == 1 and 'checkpoint 2 of' in warning and 'going back to checkpoint 1' in warning
  aside = f'{two}/checkpoints/damaged/2'
  assert 'is damaged (' in warning and f'moved to {aside};' in warning
  assert files(aside) == damaged and newest(two) == (1, [])

  save(two, 2)  # again, and damaged again
  assert newest(two) == (2, [])
  flip(f'{checkpoint}/health/metadata')
  step, (warning,) = newest(two)
  assert step == 1 and f'moved to {aside}_2;' in warning and files(aside) == damaged


@pytest.mark.parametrize('error', [
    OSError(errno.EIO, 'Input/output error'), MemoryError(),
    ValueError('RESOURCE_EXHAUSTED: Error reading [OS error 24: EMFILE Too many open files]'),
    ValueError('UNKNOWN: Error reading "x": [OS error 5: EIO Input/output error]'),
    ImportError('another version')], ids=str)
def test_errors_of_the_machine_end_the_run_and_change_nothing(two, monkeypatch, error):
  def restore(*arguments, **named):
    raise error

  before = files(two)
  with monkeypatch.context() as patched:
    patched.setattr(ocp.CheckpointManager, 'restore', restore)
    with pytest.raises(UserError, match='checkpoint 2 of .*cannot be read.*nothing has been') as e:
      newest(two)
  assert not isinstance(e.value, checkpoints.Damaged)
  assert files(two) == before and newest(two) == (2, [])


def test_damaged_checkpoints_stay_if_there_are_no_others(two):
  for step in (1, 2):
    shutil.rmtree(f'{two}/checkpoints/{step}/state')
  before = files(two)
  with pytest.raises(UserError, match='checkpoint 2 of .*as are all'):
    newest(two)
  assert files(two) == before


def test_checkpoints_of_earlier_versions_are_read(two, monkeypatch):
  """They have no digest, so less damage is found."""
  with monkeypatch.context() as patched:
    patched.setattr(checkpoints, '_digest', lambda *_: None)
    save(two, 3)
  assert newest(two) == (3, [])
  halve(f'{two}/checkpoints/3/health/metadata')
  assert newest(two)[0] == 2


def test_a_kill_during_deletion_leaves_no_partial_checkpoint(two, monkeypatch):
  opened = checkpoints.Checkpoints(two, validated_after=50)
  with monkeypatch.context() as patched:

    def die(path, **_):
      raise KeyboardInterrupt

    patched.setattr(shutil, 'rmtree', die)
    with pytest.raises(KeyboardInterrupt):
      opened.delete_after(1)
  opened.close()
  assert newest(two, validated_after=None) == (1, [])
  assert newest(two) == (1, []) and os.listdir(f'{two}/checkpoints') == ['1']


def test_checkpoints_are_kept_until_two_newer_ones_are_validated(tmp_path):
  """Those of SIGTERM, 1010 to 1030, do not count among the two."""
  save(tmp_path, 0, 900, 1000, 1010, 1020, 1030)
  numbers = lambda: sorted(map(int, os.listdir(tmp_path / 'checkpoints')))
  assert numbers() == [0, 900, 1000, 1010, 1020, 1030]
  save(tmp_path, 1060)
  assert numbers() == [1000, 1010, 1020, 1030, 1060]

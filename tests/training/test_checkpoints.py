import errno
import logging as py_logging
import os
import resource
import shutil
import sys

import numpy as np
import pytest
from absl import logging

from conv_draw.errors import UserError
from conv_draw.training import checkpoints, spikes, steps


def test_opening_reading_and_writing_leave_loggers_and_hooks_alone(tmp_path, monkeypatch):
  """They are the process's, not a library's."""
  loggers = [logging.get_absl_logger(), py_logging.getLogger('asyncio'), py_logging.getLogger()]
  for logger in loggers:  # another test may have run a command line
    monkeypatch.setattr(logger, 'filters', [])
  handlers = [list(logger.handlers) for logger in loggers]
  levels = [logger.level for logger in loggers]
  hook = sys.__unraisablehook__
  monkeypatch.setattr(sys, 'unraisablehook', hook)
  zero = np.int32(0)
  state = steps.TrainState(zero, zero, {'w': np.ones(3, np.float32)}, None, None)
  for trust_after in (2, None):
    opened = checkpoints.Checkpoints(tmp_path, trust_after)
    if trust_after:
      opened.save(state, spikes.Health())
      opened.wait()
    opened.restore_newest(state, warn=print)
    opened.close()
  params, step = checkpoints.restore_params(tmp_path, state)
  np.testing.assert_array_equal(params['w'], 1)
  assert step == 0
  assert [logger.filters for logger in loggers] == [[], [], []]
  assert [list(logger.handlers) for logger in loggers] == handlers
  assert [logger.level for logger in loggers] == levels and sys.unraisablehook is hook


def state_at(step):
  noise = np.random.default_rng(step).normal(size=(40, 40)).astype(np.float32)
  return steps.TrainState(np.int32(step), np.int32(0), {'w': noise}, None, None)


@pytest.fixture
def two(tmp_path):
  """A workdir with checkpoints 1 and 2."""
  workdir = str(tmp_path / 'two')
  opened = checkpoints.Checkpoints(workdir, trust_after=50)
  for step in (1, 2):
    opened.save(state_at(step), spikes.Health([1.0, float(step)]))
  opened.close()
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


def newest(workdir, trust_after=50):
  """(step, warnings) of `restore_newest`."""
  warnings = []
  opened = checkpoints.Checkpoints(workdir, trust_after)
  try:
    state, _ = opened.restore_newest(state_at(0), warnings.append)
  finally:
    opened.close()
  return int(state.step), warnings


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
  """Bytes that are not UTF-8, where Orbax reads text first."""
  with open(path, 'r+b') as f:
    f.seek(os.path.getsize(path) // 2)
    f.write(b'\xb9')


@pytest.mark.parametrize('damage', [halve, flip, no_text, os.remove])
@pytest.mark.parametrize('where', ['state/_METADATA', 'state/manifest.ocdbt', 'health/metadata',
                                   'the largest'])
def test_damage_anywhere_is_found_named_and_moved_aside(two, damage, where):
  checkpoint = f'{two}/checkpoints/2'
  before = files(f'{two}/checkpoints/1')
  if where == 'the largest':
    sizes = {path: len(data) for path, data in files(checkpoint).items()}
    where = max(sizes, key=sizes.get)
  damage(f'{checkpoint}/{where}')
  damaged = files(checkpoint)
  step, (warning,) = newest(two, trust_after=None)
  assert step == 1 and 'moved' not in warning and files(checkpoint) == damaged  # only read
  step, (warning,) = newest(two)
  assert step == 1 and 'checkpoint 2 of' in warning and 'going back to checkpoint 1' in warning
  aside = f'{two}/checkpoints/damaged/2'
  assert 'is damaged (' in warning and f'moved to {aside};' in warning
  assert files(aside) == damaged and files(f'{two}/checkpoints/1') == before
  assert newest(two) == (1, [])

  opened = checkpoints.Checkpoints(two, trust_after=50)
  opened.save(state_at(2), spikes.Health())  # its place is free
  opened.close()
  assert newest(two) == (2, [])
  flip(f'{checkpoint}/health/metadata')
  step, (warning,) = newest(two)
  assert step == 1 and f'moved to {aside}_2;' in warning and files(aside) == damaged


@pytest.mark.parametrize('error', [
    OSError(errno.EIO, 'Input/output error'), OSError(errno.EMFILE, 'Too many open files'),
    PermissionError(errno.EACCES, 'Permission denied'), MemoryError(),
    RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes.'),
    ValueError('RESOURCE_EXHAUSTED: Error reading [OS error 24: EMFILE Too many open files]'),
    ValueError('UNKNOWN: Error reading "x": [OS error 5: EIO Input/output error]'),
    ImportError('another version')], ids=str)
def test_what_is_not_the_files_fault_ends_the_run_and_changes_nothing(two, monkeypatch, error):
  before = files(two)
  opened = checkpoints.Checkpoints(two, trust_after=50)

  def restore(*arguments, **named):
    raise error

  monkeypatch.setattr(opened._manager, 'restore', restore)
  with pytest.raises(UserError, match='checkpoint 2 of .*cannot be read.*nothing has been') as e:
    opened.restore_newest(state_at(0), pytest.fail)
  assert not isinstance(e.value, checkpoints.Damaged)
  opened.close()
  assert files(two) == before and newest(two) == (2, [])


def test_no_file_handles_left_is_not_damage(two, monkeypatch):
  before = files(two)
  # Of what threads say of it, pytest's own hook would open files.
  monkeypatch.setattr(sys, 'unraisablehook', lambda _: None)
  newest(two, trust_after=None)  # what is loaded on the way is loaded
  opened = checkpoints.Checkpoints(two, trust_after=50)
  limit = resource.getrlimit(resource.RLIMIT_NOFILE)
  used = max(int(name) for name in os.listdir('/dev/fd'))
  for more in (1, 3, 6):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, limit[1]))
    try:
      opened.restore_newest(state_at(0), pytest.fail)
    except UserError as e:
      assert not isinstance(e, checkpoints.Damaged) and 'cannot be read' in str(e)
      assert 'Too many' in str(e) or 'EMFILE' in str(e), e
    finally:
      resource.setrlimit(resource.RLIMIT_NOFILE, limit)
  opened.close()
  assert files(two) == before and newest(two) == (2, [])


def test_damage_alone_is_left_where_it_is(two):
  for step in (1, 2):
    shutil.rmtree(f'{two}/checkpoints/{step}/state')
  before = files(two)
  with pytest.raises(UserError, match='checkpoint 2 of .*as are all'):
    newest(two)
  assert files(two) == before


def test_checkpoints_of_earlier_versions_are_read(two, monkeypatch):
  """Those had no digest; what they can show of damage is less."""
  monkeypatch.setattr(checkpoints, '_digest', lambda *_: None)
  opened = checkpoints.Checkpoints(two, trust_after=50)
  opened.save(state_at(3), spikes.Health([1.0]))
  opened.close()
  monkeypatch.undo()
  assert newest(two) == (3, [])
  halve(f'{two}/checkpoints/3/health/metadata')
  assert newest(two)[0] == 2


def test_a_checkpoint_on_its_way_out_is_not_taken_for_one(two, monkeypatch):
  opened = checkpoints.Checkpoints(two, trust_after=50)
  with monkeypatch.context() as patched:

    def die(path, **_):
      raise KeyboardInterrupt

    patched.setattr(shutil, 'rmtree', die)
    with pytest.raises(KeyboardInterrupt):
      opened.delete_after(1)
  opened.close()
  assert newest(two, trust_after=None) == (1, [])
  assert newest(two) == (1, []) and os.listdir(f'{two}/checkpoints') == ['1']


def test_checkpoints_are_kept_until_two_newer_ones_are_trusted(tmp_path):
  """Those of SIGTERM, 1010 to 1030, must not use up the places of the ones that are trusted."""
  opened = checkpoints.Checkpoints(tmp_path, trust_after=50)
  for step in (0, 900, 1000, 1010, 1020, 1030):
    opened.save(state_at(step), spikes.Health())
  assert opened.steps() == [0, 900, 1000, 1010, 1020, 1030]
  opened.save(state_at(1060), spikes.Health())
  assert opened.steps() == [1000, 1010, 1020, 1030, 1060]
  opened.close()
  assert sorted(os.listdir(tmp_path / 'checkpoints'), key=int) == [
      '1000', '1010', '1020', '1030', '1060']

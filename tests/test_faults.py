"""What happens to the real program, in child processes, when the world goes wrong."""

import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conv_draw.errors import Preempted
from conv_draw.workdir import metrics
from tests.program import ROOT, TINY, environment, launch, saved, start


@pytest.fixture
def again(run, tmp_path):
  """A copy of a finished run, to be damaged."""
  workdir = str(tmp_path / 'again')
  shutil.copytree(run[0], workdir)
  return workdir


def newest(workdir):
  """Files of the newest checkpoint, the largest first."""
  files = [os.path.join(folder, name)
           for folder, _, names in os.walk(f'{workdir}/checkpoints/12') for name in names]
  return sorted(files, key=os.path.getsize, reverse=True)


def truncate(workdir):
  for path in newest(workdir)[:1]:
    os.truncate(path, os.path.getsize(path) // 2)


def flip(workdir):
  """One bit in the middle of the largest file: the parameters."""
  with open(newest(workdir)[0], 'rb+') as f:
    f.seek(os.path.getsize(f.name) // 2)
    byte = f.read(1)[0]
    f.seek(-1, os.SEEK_CUR)
    f.write(bytes([byte ^ 16]))


def empty_health(workdir):
  (path,) = [p for p in newest(workdir) if '/health/' in p and os.path.basename(p) == 'metadata']
  os.truncate(path, 0)


@pytest.mark.parametrize('damage', [truncate, flip, empty_health])
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(run, again, damage):
  damage(again)
  status, out, error = launch(*TINY, f'--workdir={again}')
  assert status == 0, error
  (warning,) = [line for line in error.splitlines() if 'is damaged' in line]
  assert 'checkpoint 12' in warning and 'going back to checkpoint 8' in warning
  assert saved(again) == saved(run[0]) and out == run[1].replace(run[0], again)
  assert [line['step'] for line in metrics.read(again) if line.get('event') == 'resume'] == [8]


def test_a_run_without_a_sound_checkpoint_says_so(again):
  for step in os.listdir(f'{again}/checkpoints'):
    shutil.rmtree(f'{again}/checkpoints/{step}/state', ignore_errors=True)
  status, out, error = launch('--mode=evaluate', f'--workdir={again}')
  assert status == 2 and out == '' and len(error.splitlines()) == 1, error
  assert 'is damaged' in error and 'as are all' in error


def test_sigterm_saves_and_leaves_with_a_status_of_its_own(run, tmp_path):
  workdir = str(tmp_path / 'preempted')
  long = [a.replace('steps=12', 'steps=100000').replace('every=4', 'every=50000') for a in TINY]
  process = start(*long, f'--workdir={workdir}')
  _until(process, lambda: os.path.exists(f'{workdir}/metrics.jsonl')
         and sum('split' in line for line in metrics.read(workdir)) > 3)
  process.send_signal(signal.SIGTERM)
  out, error = process.communicate(timeout=100)
  assert process.returncode == Preempted.STATUS == 75, error
  assert out == '' and 'the same command continues' in error.splitlines()[-1]
  (event,) = [line for line in metrics.read(workdir) if line.get('event') == 'preempted']
  assert 3 < event['step'] < 50_000
  assert str(event['step']) in os.listdir(f'{workdir}/checkpoints')
  first = event['step']

  process = start(*long, f'--workdir={workdir}')  # goes on from there
  _until(process, lambda: metrics.read(workdir)[-1].get('step', 0) > event['step'] + 3)
  process.send_signal(signal.SIGINT)  # Ctrl-C does the same, with the status of shells for it
  out, error = process.communicate(timeout=100)
  assert process.returncode == 130 and 'Traceback' not in error
  assert 'the same command continues' in error.splitlines()[-1]
  *_, event = [line for line in metrics.read(workdir) if line.get('event') == 'preempted']
  assert str(event['step']) in os.listdir(f'{workdir}/checkpoints')
  (resumed,) = [line for line in metrics.read(workdir) if line.get('event') == 'resume']
  assert resumed['step'] == first


def _until(process, condition):
  deadline = time.monotonic() + 200
  while not condition():
    assert process.poll() is None and time.monotonic() < deadline, process.communicate()
    time.sleep(0.01)


def test_full_disk_ends_in_one_line_and_can_be_continued(run, tmp_path):
  """No file may grow beyond 64 KiB, as if the disk were full: metrics fit, checkpoints do not."""
  workdir = str(tmp_path / 'full')
  limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))
  done = subprocess.run(
      [sys.executable, 'launch.py', *TINY, f'--workdir={workdir}'], cwd=ROOT, env=environment(),
      text=True, capture_output=True, timeout=300, preexec_fn=limit)
  assert done.returncode == 2, done.stderr
  line = done.stderr.splitlines()[-1]
  assert line.startswith('launch.py:') and 'limit' in line and 'checkpoints' in line
  assert 'Traceback' not in done.stderr  # nor those of the threads that write
  status, _, error = launch(*TINY, f'--workdir={workdir}')
  assert status == 0, error
  assert saved(workdir) == saved(run[0])


def test_threads_of_failing_saves_print_nothing(tmp_path):
  """What they print depends on chance: often, with many arrays and many tries."""
  code = '''
import resource, sys
import numpy as np
from absl import logging
from conv_draw.errors import UserError
from conv_draw.machine import quiet
from conv_draw.training import checkpoints, steps
from conv_draw.training.loss_monitor import LossMonitor
logging.set_verbosity(logging.WARNING)
quiet.say_errors_once()
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))
noise = lambda: np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32)
params = {f'layer_{i}': {'kernel': noise(), 'bias': noise()[0]} for i in range(30)}
for i in range(60):
  writer = checkpoints.Checkpoints(f'{sys.argv[1]}/{i}', validated_after=1)
  try:
    writer.save(steps.TrainState(np.int32(i), np.int32(0), params, None, None), LossMonitor())
    writer.wait()
  except UserError:
    print(i)
'''
  done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=ROOT, text=True,
                        capture_output=True, timeout=300)
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == [str(i) for i in range(60)]
  assert done.stderr == ''


def test_divergence_ends_in_one_line_after_the_last_revert(tmp_path):
  """A learning rate that makes every loss but the first infinite: the spike repeats to the cap."""
  workdir = str(tmp_path / 'diverging')
  status, out, error = launch(
      *TINY, f'--workdir={workdir}', '--config.train.learning_rate=1e30',
      '--config.spikes.max_reverts=2')
  assert status == 2 and out == '', error
  assert 'training diverges: 2 reverts in a row' in error.splitlines()[-1]
  assert 'Traceback' not in error
  assert len([line for line in metrics.read(workdir) if line.get('event') == 'revert']) == 2


def test_a_batch_of_nan_is_reverted(tmp_path):
  """In the real loop, but with images that no data set can hold."""
  code = '''
import sys, dataclasses, numpy as np
from absl import app, flags
from conv_draw import launch
from conv_draw.data import sets
from conv_draw.model import arguments
arguments.images = lambda images, *rest, **more: images  # which would refuse them
load, calls = sets.load, []
def poisoned(data_config, split):
  images = load(data_config, split)
  def fetch(indices):
    calls.append(1)
    batch = images.fetch(indices).astype(np.float32)
    return batch * np.nan if len(calls) == 7 else batch
  return dataclasses.replace(images, fetch=fetch) if split == 'train' else images
sets.load = poisoned
app.run(launch.main, flags_parser=launch.parse)
'''
  workdir = str(tmp_path / 'nan')
  done = subprocess.run(
      [sys.executable, '-c', code, *TINY, f'--workdir={workdir}'], cwd=ROOT, text=True,
      capture_output=True, timeout=300)
  assert done.returncode == 0, done.stderr
  (event,) = [line for line in metrics.read(workdir) if line.get('event') == 'revert']
  assert event['step'] == 6 and math.isnan(event['loss']) and event['to_step'] == 0
  assert 'is a spike; reverted to step 0' in done.stderr


def test_sigterm_while_figures_are_drawn(run, tmp_path):
  """A program full of XLA's threads, which has nothing to save, ends at once and in one line."""
  workdir = str(tmp_path / 'run')
  shutil.copytree(run[0], workdir, ignore=shutil.ignore_patterns('figures'))
  process = start('--mode=figures', f'--workdir={workdir}')
  figures = f'{workdir}/figures'
  _until(process, lambda: os.path.exists(f'{figures}/samples.png'))
  process.send_signal(signal.SIGTERM)
  out, error = process.communicate(timeout=30)
  assert process.returncode == 75 and len(error.splitlines()) == 1, error
  assert error.startswith('launch.py: ended by SIGTERM')
  for name in os.listdir(figures):
    assert name.endswith(('.png', '.csv')) and os.path.getsize(f'{figures}/{name}')

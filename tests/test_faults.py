"""Damage, signals and full disks, met by the real program in child processes."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

from conv_draw.errors import Preempted
from conv_draw.workdir import metrics
from tests.program import ROOT, TINY, environment, launch, saved, start


def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(run, tmp_path):
  again = shutil.copytree(run[0], tmp_path / 'again')
  files = [os.path.join(folder, name)
           for folder, _, names in os.walk(again / 'checkpoints' / '12') for name in names]
  with open(max(files, key=os.path.getsize), 'rb+') as f:  # a bit of the parameters
    f.seek(os.path.getsize(f.name) // 2)
    byte = f.read(1)[0]
    f.seek(-1, os.SEEK_CUR)
    f.write(bytes([byte ^ 16]))
  status, out, error = launch(*TINY, f'--workdir={again}')
  assert status == 0, error
  (warning,) = [line for line in error.splitlines() if 'is damaged' in line]
  assert 'checkpoint 12' in warning and 'going back to checkpoint 8' in warning
  assert saved(again) == saved(run[0]) and out == run[1].replace(run[0], str(again))
  assert [line['step'] for line in metrics.read(again) if line.get('event') == 'resume'] == [8]


def test_sigterm_saves_and_exits_with_a_status_of_its_own(run, tmp_path):
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

  process = start(*long, f'--workdir={workdir}')  # resumes
  _until(process, lambda: metrics.read(workdir)[-1].get('step', 0) > event['step'] + 3)
  process.send_signal(signal.SIGINT)  # the same, with a shell's status for Ctrl-C
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
  assert 'Traceback' not in done.stderr  # not of threads either
  status, _, error = launch(*TINY, f'--workdir={workdir}')
  assert status == 0, error
  assert saved(workdir) == saved(run[0])


def test_sigterm_while_figures_are_drawn(run, tmp_path):
  """A program with nothing to save ends at once, in one line, in spite of XLA's threads."""
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

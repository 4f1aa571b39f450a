"""Two real processes on this machine train together."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conv_draw.workdir import metrics
from tests.program import QUICK, ROOT, TINY, saved

ARGUMENTS = [*TINY, '--config.evaluate.batch_size=16']


# Two steps with the multi-rate loss, which has means over the whole batch.
PROGRESSIVE = (
    '--config=experiments/photos_lossy.py', '--config.data.crop=16', '--config.model.steps=4',
    '--config.model.features=4', '--config.model.latents=2',
    '--config.progressive.post_filter=4', '--config.train.log_every=1', '--config.train.steps=2',
    '--config.evaluate.batch_size=4', '--config.evaluate.max_images=4')


def start(devices, *arguments, common=ARGUMENTS):
  environment = os.environ | {
      'JAX_NUM_CPU_DEVICES': str(devices), 'XLA_FLAGS': QUICK}
  return subprocess.Popen(
      [sys.executable, 'launch.py', *common, *arguments], cwd=ROOT, env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def train(tmp_path, devices, alone, common=ARGUMENTS):
  """Trains with two processes of `devices` devices each, and with one of `alone` devices.

  Returns:
    (three workdirs, the output of each process)
  """
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  workdirs = [str(tmp_path / name) for name in ('first', 'second', 'alone')]
  processes = [
      start(devices, f'--workdir={workdirs[i]}', '--multihost', f'--coordinator=localhost:{port}',
            '--process_count=2', f'--process_id={i}', common=common) for i in range(2)]
  processes.append(start(alone, f'--workdir={workdirs[2]}', common=common))
  said = [process.communicate(timeout=300) for process in processes]
  for process, (_, error) in zip(processes, said, strict=True):
    assert process.returncode == 0, error
  return workdirs, [out for out, _ in said]


def test_two_processes_train_as_one(tmp_path):
  workdirs, said = train(tmp_path, 2, 4)
  # XLA's library for collectives on CPUs prints lines of its own.
  said = [
      [line for line in out.splitlines() if '[Gloo]' not in line and 'peer ranks' not in line]
      for out in said]
  # The primary process alone writes and prints.
  assert not os.path.exists(workdirs[1]) and said[1] == []
  assert said[0] == [line.replace(workdirs[2], workdirs[0]) for line in said[2]]
  assert len([e for e in metrics.read(workdirs[0]) if e.get('split') == 'test']) == 1
  # Gradients are summed in another order, so the last bits differ.
  for together, alone in zip(saved(workdirs[0]), saved(workdirs[2]), strict=True):
    together, alone = (
        np.frombuffer(x, np.float32 if len(x) > 4 else np.int32) for x in (together, alone))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_the_multi_rate_loss_of_two_processes_is_that_of_one_device(tmp_path):
  rng = np.random.default_rng(0)
  for split in 'train', 'test':
    os.makedirs(tmp_path / 'photos' / split)
    for i in range(24):
      walk = rng.uniform(0, 255) + rng.normal(0, rng.uniform(2, 20), (20, 24, 3)).cumsum(0)
      image = Image.fromarray(np.clip(walk.cumsum(1), 0, 255).astype(np.uint8))
      image.save(tmp_path / 'photos' / split / f'{i}.png')
  workdirs, _ = train(
      tmp_path, 1, 1, [*PROGRESSIVE, f'--config.data.data_dir={tmp_path / "photos"}'])
  together, alone = (
      [line for line in metrics.read(workdir) if line.get('split') == 'train']
      for workdir in (workdirs[0], workdirs[2]))
  assert len(together) == len(alone) == 2
  for one, other in zip(together, alone, strict=True):
    assert one['loss'] == pytest.approx(other['loss'], rel=1e-5)
    assert one['gradient_norm'] == pytest.approx(other['gradient_norm'], rel=1e-3)


def test_processes_that_do_not_join_are_named_in_time():
  process = start(1, '--multihost', '--coordinator=localhost:9', '--process_count=2',
                  '--process_id=1', '--join_timeout=1')
  out, error = process.communicate(timeout=100)
  assert process.returncode == 2 and out == '' and len(error.splitlines()) == 1, error
  assert 'after 1 s' in error and 'localhost:9' in error and 'does not answer' in error

"""Several processes that train together, for real: two on this machine, with two devices each."""

import os
import socket
import subprocess
import sys

import numpy as np

from conv_draw.workdir import metrics
from tests.program import QUICK, ROOT, TINY, saved

ARGUMENTS = [*TINY, '--config.evaluate.batch_size=16']


def start(devices, *arguments):
  environment = os.environ | {
      'JAX_NUM_CPU_DEVICES': str(devices), 'XLA_FLAGS': QUICK}
  return subprocess.Popen(
      [sys.executable, 'launch.py', *ARGUMENTS, *arguments], cwd=ROOT, env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_processes_are_as_one(tmp_path):
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  workdirs = [str(tmp_path / name) for name in ('first', 'second', 'alone')]
  processes = [
      start(2, f'--workdir={workdirs[i]}', '--multihost', f'--coordinator=localhost:{port}',
            '--process_count=2', f'--process_id={i}') for i in range(2)]
  processes.append(start(4, f'--workdir={workdirs[2]}'))
  said = [process.communicate(timeout=300) for process in processes]
  for process, (_, error) in zip(processes, said, strict=True):
    assert process.returncode == 0, error
  # XLA's library for collectives on CPUs prints whom it has found, in pieces that can mix.
  said = [
      [line for line in out.splitlines() if '[Gloo]' not in line and 'peer ranks' not in line]
      for out, _ in said]
  # The first alone writes and speaks.
  assert not os.path.exists(workdirs[1]) and said[1] == []
  assert said[0] == [line.replace(workdirs[2], workdirs[0]) for line in said[2]]
  assert len([e for e in metrics.read(workdirs[0]) if e.get('split') == 'test']) == 1
  # Gradients are summed in another order, so that the last bits differ.
  for together, alone in zip(saved(workdirs[0]), saved(workdirs[2]), strict=True):
    together, alone = (
        np.frombuffer(x, np.float32 if len(x) > 4 else np.int32) for x in (together, alone))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_processes_that_do_not_come_are_said_in_time():
  process = start(1, '--multihost', '--coordinator=localhost:9', '--process_count=2',
                  '--process_id=1', '--join_timeout=1')
  out, error = process.communicate(timeout=100)
  assert process.returncode == 2 and out == '' and len(error.splitlines()) == 1, error
  assert 'after 1 s' in error and 'localhost:9' in error and 'does not answer' in error

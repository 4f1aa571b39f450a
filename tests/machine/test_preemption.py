import os
import signal
import subprocess
import sys
import threading

import pytest

from conv_draw.errors import Preempted
from conv_draw.machine import ending, preemption
from tests.program import ROOT


@pytest.fixture(autouse=True)
def handlers():
  before = {number: signal.getsignal(number) for number in preemption.STATUSES}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number, status', [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_are_noted_and_end_the_block(number, status):
  with pytest.raises(Preempted), preemption.noted() as stopping:
    assert not stopping(3)
    signal.raise_signal(number)
    assert stopping(3) and stopping(4)
  assert preemption.status() == status
  with preemption.noted() as stopping:
    assert not stopping(3)  # a new block
  with pytest.raises(KeyError), preemption.noted():
    signal.raise_signal(number)
    raise KeyError  # goes before the signal


def test_a_second_ctrl_c_ends_at_once():
  with pytest.raises(KeyboardInterrupt), preemption.noted() as stopping:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # schedulers may repeat it
    signal.raise_signal(signal.SIGINT)
    assert stopping(1)
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize('number, status, name', [
    (signal.SIGTERM, 75, 'SIGTERM'), (signal.SIGINT, 130, 'Ctrl-C')])
def test_elsewhere_they_end_the_process_during_a_call(tmp_path, number, status, name):
  """Of a function that takes hours and ignores signals; temporary files are removed."""
  (tmp_path / 'result').write_text('before')
  code = '''
import hashlib, os, sys
from conv_draw.machine import files, preemption
preemption.leave_at_once('prog')
os.fsync = lambda f: hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
with files.scratch('folder'):
  os.makedirs('folder/sub')
  print('in the buffer')
  os.write(1, b'ready\\n')  # before the buffered line
  files.write_file('result', 'after')
'''
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'}
  child = subprocess.Popen(
      [sys.executable, '-c', code], cwd=tmp_path, env=environment | {'PYTHONPATH': ROOT}, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  try:
    assert child.stdout.readline() == 'ready\n'
    child.send_signal(number)
    out, error = child.communicate(timeout=30)
  finally:
    child.kill()
  assert child.returncode == status
  assert len(error.splitlines()) == 1 and error.startswith(f'prog: ended by {name}')
  assert out == 'in the buffer\n'
  assert os.listdir(tmp_path) == ['result'] and (tmp_path / 'result').read_text() == 'before'


def test_ignored_signals_stay_ignored(monkeypatch):
  """Such as SIGINT under nohup."""
  monkeypatch.setattr(ending, 'end', lambda *_: pytest.fail('it ends'))
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  with preemption.noted() as stopping:
    signal.raise_signal(signal.SIGINT)
    assert not stopping(1)
  assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_set_no_handlers():
  """Python cannot, such as in a worker of a library."""
  before = signal.getsignal(signal.SIGTERM)
  said = []

  def work():
    preemption.leave_at_once('prog')
    with preemption.noted() as stopping:
      said.append(stopping(1))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert said == [False] and signal.getsignal(signal.SIGTERM) is before

import signal
import threading

import pytest

from conv_draw.errors import Preempted
from conv_draw.machine import preemption


@pytest.fixture(autouse=True)
def handler():
  before = signal.getsignal(signal.SIGTERM)
  yield
  signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_the_program_except_where_it_is_noted():
  preemption.leave_at_once()
  with pytest.raises(Preempted):
    signal.raise_signal(signal.SIGTERM)
  with preemption.noted() as stopping:
    assert not stopping(3)
    signal.raise_signal(signal.SIGTERM)
    assert stopping(3) and stopping(4)
  with preemption.noted() as stopping:
    assert not stopping(3)  # that was another time
  with pytest.raises(Preempted):
    signal.raise_signal(signal.SIGTERM)


def test_in_other_threads_no_signal_is_waited_for():
  """Where Python cannot set a handler, as in a library's worker."""
  before = signal.getsignal(signal.SIGTERM)
  said = []

  def work():
    preemption.leave_at_once()
    with preemption.noted() as stopping:
      said.append(stopping(1))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert said == [False] and signal.getsignal(signal.SIGTERM) is before

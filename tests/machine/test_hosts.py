"""Errors of one process are raised by all; tests/test_multihost.py has real processes."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from conv_draw.errors import UserError
from conv_draw.machine import hosts


class Missing(UserError):
  pass


@pytest.fixture
def second(monkeypatch):
  """Makes this the second of two processes; returns a function that sets what it receives."""
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  return lambda told: monkeypatch.setattr(hosts, 'from_primary', lambda value: told)


def fail(error):
  raise error


def test_errors_of_the_first_process_are_raised_by_the_others(second):
  never = lambda: pytest.fail('it was called')
  second(None)
  assert hosts.on_primary(never) is None
  for told, kind in (([0, 'gone'], Missing), ([1, 'gone'], UserError), ([2, 'gone'], OSError)):
    second(told)
    with pytest.raises(kind, match='gone') as raised:
      hosts.on_primary(never, Missing)
    assert raised.type is kind and raised.value.everywhere


def test_the_first_process_tells_its_error_before_it_raises_it(second, monkeypatch):
  told = []
  monkeypatch.setattr(jax, 'process_index', lambda: 0)
  monkeypatch.setattr(hosts, 'from_primary', lambda value: told.append(value) or value)
  assert hosts.on_primary(lambda: 3) == 3
  with pytest.raises(Missing):
    hosts.on_primary(lambda: fail(Missing('gone')), Missing)
  assert told == [None, (0, 'gone')]


@pytest.mark.parametrize('mine', [None, UserError('mine'), OSError(28, 'No space')])
@pytest.mark.parametrize('other', ['', 'no such directory'])
def test_errors_of_any_process_are_raised_by_all(second, monkeypatch, mine, other):
  def gather(said):
    row = np.zeros_like(said)
    row[: len(other)] = list(other.encode())
    return np.stack([row, said])

  monkeypatch.setattr(multihost_utils, 'process_allgather', gather)
  if mine is None and not other:
    with hosts.together():
      pass
    return
  with pytest.raises(type(mine) if mine else UserError) as raised, hosts.together():
    if mine:
      raise mine
  assert raised.value.everywhere and (mine or f'process 0: {other}' == str(raised.value))


@pytest.mark.parametrize('coordinator', ['host', 'host:port', ':1', 'host:70000'])
def test_a_coordinator_is_host_and_port(coordinator):
  with pytest.raises(UserError, match='HOST:PORT'):
    hosts.join('prog', coordinator, 2, 1, timeout=1)

"""The processes that train together: joining them, and telling all what the first one has."""

import contextlib
import json
import socket
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils

from conv_draw.errors import UserError, reason
from conv_draw.machine import ending

ELSEWHERE = ('outside of a TPU pod, Slurm or Kubernetes give --coordinator=HOST:PORT, '
             '--process_count and --process_id')
MISTAKE = 2  # the status
LONGEST = 2000  # bytes of an error that one process tells the others


def join(program, coordinator=None, process_count=None, process_id=None, timeout=300):
  """Makes this process one of several that train together. Must run before JAX starts its backend.

  Args:
    program: whose end it is, in one line and with status 2, if not all have come in time. JAX would
      end it by an abort, with a stack of C++.
    coordinator: HOST:PORT of process 0.
    process_count: how many.
    process_id: which one this is. All None: what JAX finds out from the TPU pod, Slurm, Open MPI or
      Kubernetes that it runs in.
    timeout: seconds to wait for the others.
  Raises:
    UserError: no such cluster, or its coordinator cannot be this one.
  """
  address = _checked(coordinator) if coordinator is not None else None
  if address and process_id == 0:
    _check_free(address)
  late = threading.Timer(timeout, lambda: ending.end(
      program, _missing(address, process_count, process_id, timeout), MISTAKE))
  late.daemon = True
  late.start()
  try:
    jax.distributed.initialize(
        coordinator, process_count, process_id, initialization_timeout=timeout + 60)
  except (RuntimeError, ValueError, TypeError, OSError) as e:
    raise UserError(f'--multihost: {reason(e)}; {ELSEWHERE}') from None
  finally:
    late.cancel()
  ending.others_wait = True


def _checked(coordinator):
  """(host, port) of HOST:PORT."""
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise UserError(f'--coordinator is {coordinator!r}: it must be HOST:PORT of process 0, such as '
                    '10.0.0.1:1234')
  return host.strip('[]'), int(port)


def _check_free(address):
  """Raises `UserError` if this process cannot listen at the port, which JAX would not tell."""
  with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(('', address[1]))
    except OSError as e:
      raise UserError(f'--coordinator: port {address[1]} of this host cannot be used '
                      f'({reason(e)}): name another') from None


def _missing(address, process_count, process_id, timeout):
  """What to say when not all processes have come."""
  what = f'--multihost: after {timeout} s (--join_timeout) '
  if address is None:
    return what + f'not all processes have come together; {ELSEWHERE}'
  if process_id != 0:
    try:
      socket.create_connection(address, timeout=1).close()
    except OSError as e:
      return what + (f'process 0 does not answer at {address[0]}:{address[1]} ({reason(e)}): start '
                     'it, or mend --coordinator')
  return what + (f'not all of the {process_count} processes have come: start the others too, with '
                 'the same --coordinator and --process_count')


def primary():
  """Whether this is the process that writes files and speaks: the first one, or the only one."""
  return jax.process_index() == 0


def from_primary(value):
  """What the first process has, on all of them; anything that JSON can hold."""
  if jax.process_count() == 1:
    return value
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  mine = np.zeros(size, np.uint8)
  if primary():
    mine[:] = data
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(mine)).tobytes().decode())


def arrays_from_primary(tree):
  """Likewise for a pytree of host arrays, of one structure everywhere."""
  return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def on_primary(function, *kinds):
  """What `function()` returns on the first process; on the others, which do not call it, None.

  It must not wait for the others. If it raises one of `kinds` (by default `UserError` or OSError),
  all processes raise that, instead of waiting for what will never come.
  """
  kinds = (*kinds, UserError, OSError)
  value = error = told = None
  if jax.process_count() == 1:
    return function()
  if primary():
    try:
      value = function()
    except kinds as e:
      error = e
      told = next(i for i, kind in enumerate(kinds) if isinstance(e, kind)), str(e)
  told = from_primary(told)
  if told:
    raise _known(error if error is not None else kinds[told[0]](told[1]))
  return value


@contextlib.contextmanager
def together():
  """Around what each process does by itself: a `UserError` or OSError of one is raised by all."""
  error = None
  try:
    yield
  except (UserError, OSError) as e:
    if jax.process_count() == 1:
      raise
    error = e
  if jax.process_count() == 1:
    return
  said = np.zeros(LONGEST, np.uint8)
  text = str(error).encode(errors='backslashreplace')[:LONGEST] if error is not None else b''
  said[: len(text)] = np.frombuffer(text, np.uint8)
  for i, row in enumerate(np.asarray(multihost_utils.process_allgather(said))):
    if error is None and row.any():
      text = row.tobytes().rstrip(b'\0').decode(errors='replace')
      error = UserError(f'process {i}: {text}')
  if error is not None:
    raise _known(error)


def _known(error):
  """An error that all processes have: each can say it and leave in order."""
  error.everywhere = True
  return error


def wait_for_all(where):
  """Returns when all processes have come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(where)

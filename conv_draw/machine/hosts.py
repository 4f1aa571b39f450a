"""Several processes that train together: joining them, broadcasts, and shared errors."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from conv_draw.errors import UserError, reason
from conv_draw.machine import ending

ELSEWHERE = ('outside of a TPU pod, Slurm or Kubernetes give --coordinator=HOST:PORT, '
             '--process_count and --process_id')
LONGEST = 2000  # most bytes of an error message that one process sends the others


def join(program: str, coordinator: str | None, process_count: int | None,
         process_id: int | None, timeout: int) -> None:
  """Joins the processes that train together. Must run before JAX starts its backend.

  If the others do not join in time, the program ends in one line with status 2 (JAX would abort
  with a stack trace of C++).

  Args:
    program: the name that starts the line.
    coordinator: HOST:PORT of process 0.
    process_count, process_id: None, as `coordinator`, if JAX detects them in a TPU pod, Slurm, Open
      MPI or Kubernetes.
    timeout: seconds to wait for the others.
  Raises:
    UserError: there is no such cluster, or the coordinator's port cannot be used.
  """
  address = _checked(coordinator) if coordinator is not None else None
  if address and process_id == 0:
    _check_free(address)
  late = threading.Timer(timeout, lambda: ending.end(
      program, _missing(address, process_count, process_id, timeout), 2))
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
  """Raises `UserError` if this process cannot listen at the port; JAX would not report it."""
  with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(('', address[1]))
    except OSError as e:
      raise UserError(f'--coordinator: port {address[1]} of this host cannot be used '
                      f'({reason(e)}): name another') from None


def _missing(address, process_count, process_id, timeout):
  """The message when not all processes have joined."""
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


def primary() -> bool:
  """Whether this is the process that writes files and prints: process 0."""
  return jax.process_index() == 0


def from_primary(value: Any) -> Any:
  """The primary process's `value` on all processes, sent as JSON."""
  if jax.process_count() == 1:
    return value
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  mine = np.zeros(size, np.uint8)
  if primary():
    mine[:] = data
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(mine)).tobytes().decode())


def arrays_from_primary(tree: Any) -> Any:
  """As `from_primary`, for a pytree of host arrays with the same structure everywhere."""
  return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def on_primary(function: Callable[[], Any], *kinds: type[Exception]) -> Any:
  """The result of `function()` on the primary process; None on the others, which do not call it.

  `function` must not communicate. If it raises a `UserError`, an OSError or one of `kinds`, all
  processes raise the same error.
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
def together() -> Iterator[None]:
  """Context in which a `UserError` or OSError of one process is raised by all at the end."""
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
  """Marks an error that all processes raise, so that each can report it and exit normally."""
  error.everywhere = True
  return error


def wait_for_all(where: str) -> None:
  """Returns when all processes have called it with the same `where`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(where)

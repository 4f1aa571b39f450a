"""The processes that train together: joining them, and telling all what the first one has."""

import json

import jax
import numpy as np
from jax.experimental import multihost_utils

from conv_draw.errors import UserError, reason


def join(coordinator=None, process_count=None, process_id=None):
  """Makes this process one of several that train together. Must run before JAX starts its backend.

  Args:
    coordinator: HOST:PORT of process 0.
    process_count: how many.
    process_id: which one this is. All None: what JAX finds out from the TPU pod, Slurm, Open MPI or
      Kubernetes that it runs in.
  Raises:
    UserError: no such cluster, or it cannot be reached.
  """
  try:
    jax.distributed.initialize(coordinator, process_count, process_id)
  except (RuntimeError, ValueError, OSError) as e:
    raise UserError(
        f'--multihost: {reason(e)}; outside of a TPU pod, Slurm or Kubernetes give '
        '--coordinator=HOST:PORT, --process_count and --process_id') from None


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


def wait_for_all(where):
  """Returns when all processes have come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(where)

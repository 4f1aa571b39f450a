"""Arrays across the local devices: state on all of them, batches split between them."""

import functools
import json
import os
import platform
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from conv_draw.errors import UserError


def one_device_per_core(batch_size):
  """On a CPU, makes JAX see its cores as devices: `jax.pmap` over them beats XLA's own threads.

  As many devices as cores, or the next smaller number that divides the batch. Must run before JAX
  starts its backend. Leaves everything alone if the user has set XLA_FLAGS or
  JAX_NUM_CPU_DEVICES; changes nothing for GPUs and TPUs.
  """
  if 'XLA_FLAGS' in os.environ or 'JAX_NUM_CPU_DEVICES' in os.environ:
    return
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  count = max((n for n in range(1, cores + 1) if batch_size % n == 0), default=1)
  jax.config.update('jax_num_cpu_devices', count)
  if count == cores:  # else the devices share the spare cores through XLA's thread pool
    os.environ['XLA_FLAGS'] = '--xla_cpu_multi_thread_eigen=false'


def restart_with_huge_pages():
  """On Linux, starts this program again with glibc's malloc on huge pages; once.

  XLA:CPU takes a step's memory from malloc and gives it back after every step: with pages of 4 KiB
  a fifth or more of a training step goes into page faults. glibc reads the setting only when a
  program starts. Leaves a GLIBC_TUNABLES of the user's alone.
  """
  if platform.libc_ver()[0] == 'glibc' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


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
        f'--multihost: {next(iter(str(e).splitlines()), type(e).__name__)}; outside of a TPU pod, '
        'Slurm or Kubernetes give --coordinator=HOST:PORT, --process_count and --process_id'
    ) from None


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


def mine(batch):
  """This process's share of host arrays [B, ...]: [B / processes, ...]."""
  share = lambda x: np.split(x, jax.process_count())[jax.process_index()]
  return jax.tree.map(share, batch)


def of_all(x):
  """An array of `jax.pmap`, [devices of all processes, ...], as a host array."""
  local = np.concatenate([np.asarray(shard.data) for shard in x.addressable_shards])
  if jax.process_count() == 1:
    return local
  gathered = multihost_utils.process_allgather(local)  # [processes, devices of each, ...]
  return np.asarray(gathered).reshape(-1, *local.shape[1:])


def wait_for_all(where):
  """Returns when all processes have come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(where)


def check_batch_size(key, batch_size):
  """Raises `UserError` if the devices do not divide the global batch size set by `key`."""
  count = jax.device_count()
  if batch_size < 1 or batch_size % count:
    raise UserError(
        f'{key} is {batch_size}, which {count} devices do not divide: '
        f'set --config.{key} to a multiple of {count}')


def replicate(tree):
  """Host pytree -> the same on every local device, with a leading device axis (for `jax.pmap`)."""
  count = jax.local_device_count()
  return jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *np.shape(x))), tree)


@functools.cache
def _identity():
  """Made once: another function, even an equal one, would be compiled again."""
  return jax.pmap(lambda x: x)


def on_devices(tree):
  """Host arrays with a leading device axis -> the same on the devices, sent once."""
  return _identity()(tree)


def unreplicate(tree):
  """The first device's copy of a replicated pytree, as host arrays."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def split(batch):
  """Host arrays [B, ...] -> [devices, B / devices, ...]."""
  count = jax.local_device_count()
  return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

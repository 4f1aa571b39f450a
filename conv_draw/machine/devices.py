"""Arrays on the devices: state on all of them, batches split between them."""

import functools

import jax
import numpy as np
from jax.experimental import multihost_utils

from conv_draw.errors import UserError

AXIS = 'devices'  # of all that is mapped over them


def check_batch_size(key, batch_size):
  """Raises `UserError` if the devices do not divide the global batch size set by `key`."""
  count = jax.device_count()
  if batch_size < 1 or batch_size % count:
    raise UserError(
        f'{key} is {batch_size}, which {count} devices do not divide: '
        f'set --config.{key} to a multiple of {count}')


def mine(batch):
  """This process's share of host arrays [B, ...]: [B / processes, ...]."""
  share = lambda x: np.split(x, jax.process_count())[jax.process_index()]
  return jax.tree.map(share, batch)


def split(batch):
  """Host arrays [B, ...] -> [devices, B / devices, ...]."""
  count = jax.local_device_count()
  return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)


def replicate(tree):
  """Host pytree -> the same on every local device, with a leading device axis (for `jax.pmap`)."""
  count = jax.local_device_count()
  return on_devices(
      jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *np.shape(x))), tree))


@functools.cache
def _identity():
  """Made once: another function, even an equal one, would be compiled again.

  Its axis is the steps' own: otherwise a step would be compiled once for what this returns, and
  once more for what it has returned itself.
  """
  return jax.pmap(lambda x: x, axis_name=AXIS)


def on_devices(tree):
  """Host arrays with a leading device axis -> the same on the devices, sent once."""
  with jax.transfer_guard('allow'):  # which is meant here
    return _identity()(tree)


def unreplicate(tree):
  """The first device's copy of a replicated pytree, as host arrays."""
  return jax.tree.map(lambda x: jax.device_get(x.addressable_shards[0].data)[0], tree)


def of_all(x):
  """An array of `jax.pmap`, [devices of all processes, ...], as a host array."""
  local = np.concatenate([jax.device_get(shard.data) for shard in x.addressable_shards])
  if jax.process_count() == 1:
    return local
  gathered = multihost_utils.process_allgather(local)  # [processes, devices of each, ...]
  return np.asarray(gathered).reshape(-1, *local.shape[1:])

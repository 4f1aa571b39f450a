"""Arrays on the devices: replicated states and divided batches."""

import functools
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from conv_draw.errors import UserError

AXIS = 'devices'  # the name of the mapped axis


def check_batch_size(key: str, batch_size: int) -> None:
  """Raises `UserError` unless the number of devices divides the global batch size of `key`."""
  count = jax.device_count()
  if batch_size < 1 or batch_size % count:
    raise UserError(
        f'{key} is {batch_size}, which {count} devices do not divide: '
        f'set --config.{key} to a multiple of {count}')


def mine(batch: Any) -> Any:
  """Host arrays [B, ...] -> this process's share, [B / processes, ...]."""
  share = lambda x: np.split(x, jax.process_count())[jax.process_index()]
  return jax.tree.map(share, batch)


def split(batch: Any) -> Any:
  """Host arrays [B, ...] -> [devices, B / devices, ...]."""
  count = jax.local_device_count()
  return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)


def replicate(tree: Any) -> Any:
  """Host pytree -> copies on all local devices, with a leading device axis for `jax.pmap`."""
  count = jax.local_device_count()
  return on_devices(
      jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *np.shape(x))), tree))


@functools.cache
def _identity():
  """The mapped identity; cached, so that it is compiled once.

  It has the axis name of the steps: otherwise a step would be compiled twice, once for outputs of
  this function and once for its own.
  """
  return jax.pmap(lambda x: x, axis_name=AXIS)


def on_devices(tree: Any) -> Any:
  """Host arrays with a leading device axis -> arrays on the devices."""
  with jax.transfer_guard('allow'):
    return _identity()(tree)


def unreplicate(tree: Any) -> Any:
  """Replicated pytree -> the first device's copy, as host arrays."""
  return jax.tree.map(lambda x: jax.device_get(x.addressable_shards[0].data)[0], tree)


def of_all(x: jax.Array) -> np.ndarray:
  """Output of `jax.pmap` -> host array [devices of all processes, ...]."""
  local = np.concatenate([jax.device_get(shard.data) for shard in x.addressable_shards])
  if jax.process_count() == 1:
    return local
  gathered = multihost_utils.process_allgather(local)  # [processes, devices of each, ...]
  return np.asarray(gathered).reshape(-1, *local.shape[1:])

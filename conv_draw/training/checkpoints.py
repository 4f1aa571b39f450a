"""Orbax checkpoints: the training state, and beside it the health record that judges it."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from conv_draw.errors import UserError, reason
from conv_draw.machine import hosts
from conv_draw.training import spikes


@contextlib.contextmanager
def only_process(workdir):
  """Holds `workdir`/lock, which the system frees when the process ends, however it ends.

  Raises:
    UserError: another process holds it.
  """
  os.makedirs(workdir, exist_ok=True)
  with open(os.path.join(workdir, 'lock'), 'w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
          f'{workdir} is in use by another training process: wait for it, or choose another '
          '--workdir') from None
    yield


class Damaged(UserError):
  """A checkpoint that is not what was saved."""


class Checkpoints:
  """The numbered checkpoints of a workdir, each complete or absent.

  Of several processes the first one reads and writes, and tells the others what it has read: only
  its workdir needs to exist.
  """

  def __init__(self, workdir, keep):
    """Opens `workdir`/checkpoints; keeps the newest `keep` of what is saved, None only reads."""
    self._directory = os.path.abspath(os.path.join(workdir, 'checkpoints'))
    self._manager = None
    if not hosts.primary():
      return
    alone = {} if jax.process_count() == 1 else {
        'multiprocessing_options': ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix='primary')}
    if alone and keep is not None:
      os.makedirs(self._directory, exist_ok=True)  # which Orbax then leaves to us
    self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=keep is not None and not alone, read_only=keep is None,
            **alone))

  def steps(self):
    """Steps that have a checkpoint, ascending."""
    return hosts.from_primary(sorted(self._manager.all_steps()) if self._manager else None)

  def save(self, state, health):
    """Saves a host `TrainState`; writing goes on in the background."""
    if not self._manager:
      return
    record = dataclasses.asdict(health)
    with self._writing():
      self._manager.save(int(state.step), args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          health=ocp.args.JsonSave(record | {'digest': _digest(state, record)})))

  def restore(self, step, like):
    """Reads a checkpoint.

    Args:
      step: one of `steps()`.
      like: `TrainState` of the expected structure, shapes and types.
    Returns:
      (`TrainState` of host arrays, `spikes.Health`).
    Raises:
      Damaged: it cannot be read, or is not what was saved.
      UserError: it is of another model.
    """
    read = self._read(step, like) if self._manager else None
    if jax.process_count() == 1:
      return read
    state, health = read or (jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like), None)
    record = hosts.from_primary(health and dataclasses.asdict(health))
    return hosts.arrays_from_primary(state), spikes.Health(**record)

  def _read(self, step, like):
    self.wait()
    like = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    where = f'checkpoint {step} of {self._directory}'
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(like), health=ocp.args.JsonRestore()))
    except Exception as e:  # Orbax does not say which kinds there are
      raise Damaged(f'{where} is damaged ({reason(e)[:200]})') from e
    state, record = restored['state'], restored['health']
    if jax.tree.map(np.shape, state) != jax.tree.map(np.shape, like):
      raise UserError(
          f'{where} is of a model of other shapes: its images had other channels, or its config '
          'was another')
    digest = record.pop('digest', None)  # which the first versions of this program did not write
    if digest is not None and digest != _digest(state, record):
      raise Damaged(f'{where} is damaged (it is not what was saved)')
    return state, spikes.Health(**record)

  def restore_newest(self, like, warn):
    """`restore` of the newest checkpoint that is not damaged; `warn` is told of those that are.

    Raises:
      UserError: there is none, or it is of another model.
    """
    error = None
    for step in reversed(self.steps()):
      try:
        restored = self.restore(step, like)
      except Damaged as e:
        error = e
        continue
      if error is not None:
        warn(f'{error}; going back to checkpoint {step}')
      return restored
    if error is None:
      raise UserError(f'{self._directory} holds no complete checkpoint: train first')
    raise UserError(f'{error}, as are all there are: train again, in another --workdir')

  def delete_after(self, step):
    """Removes the checkpoints that are newer than `step`."""
    if not self._manager:
      return
    self.wait()
    for newer in self._manager.all_steps():
      if newer > step:
        self._manager.delete(newer)

  def wait(self):
    """Returns once everything saved is on disk."""
    if self._manager:
      with self._writing():
        self._manager.wait_until_finished()

  def close(self):
    if self._manager:
      with self._writing():
        self._manager.close()

  @contextlib.contextmanager
  def _writing(self):
    """What went wrong since the last call: files are written by threads of their own."""
    try:
      yield
    except (OSError, ValueError) as e:  # TensorStore's are ValueErrors
      raise UserError(
          f'{self._directory} cannot be written ({reason(e)[-200:]}): make space or mend its '
          'permissions; the same command then continues') from e


def restore_params(workdir, like):
  """(`TrainState.params_to_use`, step) of a workdir's newest checkpoint.

  Args:
    workdir: of a training run.
    like: `TrainState` of the structure that its configuration gives.
  """
  directory = os.path.join(workdir, 'checkpoints')
  if not os.path.isdir(directory):
    raise UserError(f'{directory} does not exist: train first, or name a trained --workdir')
  checkpoints = Checkpoints(workdir, keep=None)
  try:
    state, _ = checkpoints.restore_newest(like, lambda text: print(text, file=sys.stderr))
  finally:
    checkpoints.close()
  return state.params_to_use, int(state.step)


def _digest(state, record):
  """Hex digest of a host `TrainState` and of the health record as JSON has it."""
  digest = hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16)
  for path, value in jax.tree_util.tree_leaves_with_path(state):
    value = np.asarray(value)
    digest.update(f'{jax.tree_util.keystr(path)} {value.dtype} {value.shape}'.encode())
    digest.update(np.ascontiguousarray(value).data)
  return digest.hexdigest()

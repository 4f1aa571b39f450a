"""Orbax checkpoints: the training state, and beside it the health record that judges it."""

import contextlib
import dataclasses
import fcntl
import os

import jax
import numpy as np
import orbax.checkpoint as ocp

from conv_draw import spikes
from conv_draw.errors import UserError


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


class Checkpoints:
  """The numbered checkpoints of a workdir, each complete or absent."""

  def __init__(self, workdir, keep):
    """Opens `workdir`/checkpoints; keeps the newest `keep` of what is saved, None only reads."""
    self._directory = os.path.abspath(os.path.join(workdir, 'checkpoints'))
    self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=keep is not None, read_only=keep is None))

  def steps(self):
    """Steps that have a checkpoint, ascending."""
    return sorted(self._manager.all_steps())

  def save(self, state, health):
    """Saves a host `TrainState`; writing goes on in the background."""
    self._manager.save(int(state.step), args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        health=ocp.args.JsonSave(dataclasses.asdict(health))))

  def restore(self, step, like):
    """Reads a checkpoint.

    Args:
      step: one of `steps()`.
      like: `TrainState` of the expected structure, shapes and types.
    Returns:
      (`TrainState` of host arrays, `spikes.Health`).
    """
    self.wait()
    like = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    where = f'checkpoint {step} of {self._directory}'
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(like), health=ocp.args.JsonRestore()))
    except (OSError, ValueError, KeyError, TypeError) as e:
      reason = next(iter(str(e).splitlines()), type(e).__name__)[:200]
      raise UserError(
          f'{where} is damaged or of another config ({reason}): delete it, or leave out --config '
          'to use the stored one') from e
    if jax.tree.map(np.shape, restored['state']) != jax.tree.map(np.shape, like):
      raise UserError(
          f'{where} is of a model of other shapes: its images had other channels, or its config '
          'was another')
    return restored['state'], spikes.Health(**restored['health'])

  def delete_after(self, step):
    """Removes the checkpoints that are newer than `step`."""
    self.wait()
    for newer in self.steps():
      if newer > step:
        self._manager.delete(newer)

  def wait(self):
    """Returns once everything saved is on disk."""
    self._manager.wait_until_finished()

  def close(self):
    self.wait()
    self._manager.close()


def restore_params(workdir, like):
  """(parameters to use, step) of a workdir's newest checkpoint: the EMA if there is one.

  Args:
    workdir: of a training run.
    like: `TrainState` of the structure that its configuration gives.
  """
  directory = os.path.join(workdir, 'checkpoints')
  if not os.path.isdir(directory):
    raise UserError(f'{directory} does not exist: train first, or name a trained --workdir')
  checkpoints = Checkpoints(workdir, keep=None)
  try:
    steps = checkpoints.steps()
    if not steps:
      raise UserError(f'{directory} holds no complete checkpoint: train first')
    state, _ = checkpoints.restore(steps[-1], like)
  finally:
    checkpoints.close()
  return (state.params if state.ema_params is None else state.ema_params), int(state.step)

"""Orbax checkpoints: the training state and the loss monitor, with a digest of both."""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from conv_draw.errors import UserError, reason, remedy
from conv_draw.machine import hosts
from conv_draw.progressive import weights
from conv_draw.training import loss_monitor
from conv_draw.training.steps import TrainState


@contextlib.contextmanager
def only_process(workdir: str) -> Iterator[None]:
  """Locks `workdir`/lock; the system frees the lock when the process ends, even if killed.

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
  """The content of a checkpoint differs from what was saved."""


# Errors of TensorStore for missing or wrong bytes. Other statuses, such as RESOURCE_EXHAUSTED, and
# errors of the operating system may have their cause outside of the file.
_STATUS = re.compile('[A-Z_]+:')
_DATA_ERROR = re.compile('(DATA_LOSS|OUT_OF_RANGE|NOT_FOUND|FAILED_PRECONDITION):')
_SYSTEM_ERROR = re.compile(r'OS error (?!\d+: (ENOENT|ENOTDIR|EISDIR)\b)')
_REMOVING = '.removing'  # a checkpoint moves in here before deletion, which a kill may interrupt


class Checkpoints:
  """The numbered checkpoints of a workdir, each complete or absent.

  When several processes train, the primary process alone reads and writes, and sends the others
  what it has read: only its workdir needs to exist. A read-only instance does not communicate.
  """

  def __init__(self, workdir: str, validated_after: int | None = None):
    """Opens `workdir`/checkpoints.

    Args:
      validated_after: `loss_monitor.validated_after`, by which `save` deletes obsolete checkpoints.
        None: read-only.
    """
    self._directory = os.path.abspath(os.path.join(workdir, 'checkpoints'))
    self._manager, self._validated_after = None, validated_after
    writing = validated_after is not None
    self._together = writing and jax.process_count() > 1
    if not hosts.primary():
      return
    alone = {} if jax.process_count() == 1 else {
        'multiprocessing_options': ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix='primary')}
    if alone and writing:
      os.makedirs(self._directory, exist_ok=True)  # Orbax refuses to with these options
    self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=None, create=writing and not alone, read_only=not writing,
            todelete_subdir=_REMOVING, **alone))
    for name in os.listdir(self._directory) if writing else ():
      if name.startswith(_REMOVING):  # left by a kill; '.removing-...' by earlier versions
        shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)

  def steps(self) -> list[int]:
    """Steps that have a checkpoint, ascending."""
    mine = lambda: sorted(self._manager.all_steps())
    return hosts.from_primary(hosts.on_primary(mine)) if self._together else mine()

  def save(self, state: TrainState, monitor: loss_monitor.LossMonitor) -> None:
    """Starts to save a host `TrainState` before which all losses were healthy.

    Writing continues in the background. Obsolete checkpoints are deleted. With several processes
    the primary one writes; an error there is raised by all.
    """
    with hosts.together():
      if self._manager:
        self._save(state, monitor)

  def _save(self, state, monitor):
    self.wait()  # until the checkpoint before is complete
    step = int(state.step)
    for old in loss_monitor.obsolete(self._manager.all_steps(), step, self._validated_after):
      self._remove(old)
    record = dataclasses.asdict(monitor)
    seals = {'digest': _digest(state, record), 'structure': _structure(state)}
    with self._writing():
      self._manager.save(step, args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), health=ocp.args.JsonSave(record | seals)))

  def restore(
      self, step: int, like: TrainState,
  ) -> tuple[TrainState, loss_monitor.LossMonitor]:
    """Reads a checkpoint.

    Args:
      step: one of `steps()`.
      like: `TrainState` of the expected structure, shapes and types.
    Returns:
      (`TrainState` of host arrays, `LossMonitor`)
    Raises:
      Damaged: the content differs from what was saved.
      UserError: the checkpoint is of another model, or the machine may be why it cannot be read.
    """
    if not self._together:
      return self._read(step, like)
    read = hosts.on_primary(lambda: self._read(step, like), Damaged)
    state, monitor = read or (jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like), None)
    record = hosts.from_primary(monitor and dataclasses.asdict(monitor))
    return hosts.arrays_from_primary(state), loss_monitor.LossMonitor(**record)

  def _read(self, step, like):
    self.wait()
    like = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    where = f'checkpoint {step} of {self._directory}'
    try:
      encoder = self._encoder_of(step, like)
      if encoder:
        like = weights.with_encoder(like, encoder)
      restored = self._manager.restore(step, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(like), health=ocp.args.JsonRestore()))
    except Exception as e:  # Orbax does not document which kinds it raises
      # TensorStore's messages have the cause after paths and before the specification.
      why = reason(e).partition(' [tensorstore_spec=')[0].partition(' [source locations=')[0][-200:]
      if self._is_damage(e, step, like):
        raise Damaged(f'{where} is damaged ({why})') from e
      raise UserError(
          f'{where} cannot be read ({why}): nothing has been changed; try again when the cause is '
          'mended, or go on from the one before by moving this one elsewhere') from e
    state, record = restored['state'], restored['health']
    if jax.tree.map(np.shape, state) != jax.tree.map(np.shape, like):
      raise UserError(
          f'{where} is of a model of other shapes: its images had other channels, or its config '
          'was another')
    # Checkpoints of the first versions have no digest, those of later ones no structure.
    digest, _ = record.pop('digest', None), record.pop('structure', None)
    known = record.keys() <= {field.name for field in dataclasses.fields(loss_monitor.LossMonitor)}
    if digest is None and not known or digest not in (None, _digest(state, record)):
      raise Damaged(f'{where} is damaged (it is not what was saved)')
    if not known:
      raise UserError(f'{where} is of another version of this program: continue with that one')
    state = weights.without_encoder(state) if encoder else state
    return state, loss_monitor.LossMonitor(**record)

  def _encoder_of(self, step, like):
    """{name: shape} of the unused encoder in old checkpoints of progressive models."""
    if 'linear_width' not in like.params.get('params', {}):
      return {}
    with ocp.StandardCheckpointer() as checkpointer:
      metadata = checkpointer.metadata(os.path.join(self._directory, str(step), 'state'))
    stored = metadata.item_metadata['params']['params']
    return {name: tuple(stored[name].shape) for name in weights.encoder_of(stored)}

  def _is_damage(self, error, step, like):
    """Whether an error while reading a checkpoint proves that the checkpoint is damaged.

    Otherwise the cause may be the disk, the memory or a limit of the machine, or another version of
    Orbax, and the same checkpoint may be readable later.
    """
    missing = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
    of_data = (ValueError, TypeError, KeyError, StopIteration, *missing)
    causes = list(_causes(error))
    for cause in causes:
      text = str(cause)
      status = _STATUS.match(text) and not _DATA_ERROR.match(text)
      if status or _SYSTEM_ERROR.search(text) or not isinstance(cause, of_data):
        return False
    directory = os.path.join(self._directory, str(step))
    try:
      _read_all(directory)
    except (OSError, MemoryError):
      return False
    no_text = (json.JSONDecodeError, UnicodeDecodeError)
    if any(isinstance(cause, (*no_text, *missing)) or _DATA_ERROR.match(str(cause))
           for cause in causes):
      return True
    try:  # readable files with another tree are damaged if a tree like this was saved
      with open(os.path.join(directory, 'health', 'metadata')) as f:
        return json.load(f).get('structure') == _structure(like)
    except (OSError, ValueError, AttributeError):
      return False

  def restore_newest(
      self, like: TrainState, warn: Callable[[str], None],
  ) -> tuple[TrainState, loss_monitor.LossMonitor]:
    """`restore` of the newest checkpoint that is not damaged.

    Args:
      like: as in `restore`.
      warn: called with a message for each damaged one; unless read-only, it is also moved aside.
    Raises:
      UserError: there is no such checkpoint, or it is of another model, or it cannot be read.
    """
    return self.restore_first(max, like, warn)

  def restore_first(
      self, choose: Callable[[list[int]], int], like: TrainState,
      warn: Callable[[str], None],
  ) -> tuple[TrainState, loss_monitor.LossMonitor]:
    """As `restore_newest`, but `choose` returns which of the remaining steps is tried next."""
    left, damaged = self.steps(), []
    if not left:
      raise UserError(f'{self._directory} holds no complete checkpoint: train first')
    while left:
      step = choose(left)
      left.remove(step)
      try:
        restored = self.restore(step, like)
      except Damaged as e:
        damaged.append((step, e))
        continue
      for other, error in damaged:
        warn(f'{error}{self._put_aside(other)}; going back to checkpoint {step}')
      return restored
    raise UserError(f'{damaged[0][1]}, as are all there are: train again, in another --workdir')

  def _put_aside(self, step):
    """Moves a damaged checkpoint to the folder `damaged`; returns words that tell where."""
    if not self._manager or self._validated_after is None:
      return ''
    aside = os.path.join(self._directory, 'damaged')  # on the same disk, for certain
    os.makedirs(aside, exist_ok=True)
    names = itertools.chain([str(step)], (f'{step}_{i}' for i in itertools.count(2)))
    target = next(path for name in names
                  if not os.path.lexists(path := os.path.join(aside, name)))
    os.rename(os.path.join(self._directory, str(step)), target)
    self._manager.reload()
    return f', and has been moved to {target}'

  def delete_after(self, step: int) -> None:
    """Deletes the checkpoints that are newer than `step`."""
    if not self._manager:
      return
    self.wait()
    for newer in self._manager.all_steps():
      if newer > step:
        self._remove(newer)

  def _remove(self, step):
    with self._writing():
      self._manager.delete(step)  # moves it, so that it is complete or absent even after a kill
      shutil.rmtree(os.path.join(self._directory, _REMOVING))

  def wait(self) -> None:
    """Returns once everything saved is on disk."""
    if self._manager:
      with self._writing():
        self._manager.wait_until_finished()

  def close(self) -> None:
    if self._manager:
      with self._writing():
        self._manager.close()

  @contextlib.contextmanager
  def _writing(self):
    """Turns errors, also those of background threads since the last call, into a `UserError`."""
    try:
      yield
    except (OSError, ValueError) as e:  # TensorStore raises ValueErrors
      raise UserError(
          f'{self._directory} cannot be written ({reason(e)[-200:]}): {remedy(e)}; the '
          'same command then continues') from e


def restore_params(workdir: str, like: TrainState) -> tuple[Any, int]:
  """(`TrainState.params_to_use`, step) of a workdir's newest checkpoint.

  Args:
    like: as in `Checkpoints.restore`.
  """
  directory = os.path.join(workdir, 'checkpoints')
  if not os.path.isdir(directory):
    raise UserError(f'{directory} does not exist: train first, or name a trained --workdir')
  checkpoints = Checkpoints(workdir)
  try:
    state, _ = checkpoints.restore_newest(like, lambda text: print(text, file=sys.stderr))
  finally:
    checkpoints.close()
  return state.params_to_use, int(state.step)


def _digest(state, record):
  """Hex digest of a host `TrainState` and of the loss monitor's JSON."""
  digest = hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16)
  for path, value in jax.tree_util.tree_leaves_with_path(state):
    value = np.asarray(value)
    digest.update(f'{jax.tree_util.keystr(path)} {value.dtype} {value.shape}'.encode())
    digest.update(np.ascontiguousarray(value).data)
  return digest.hexdigest()


def _structure(state):
  """Hex digest of a `TrainState`'s paths, shapes and types."""
  lines = [f'{jax.tree_util.keystr(path)} {value.dtype} {np.shape(value)}'
           for path, value in jax.tree_util.tree_leaves_with_path(state)]
  return hashlib.blake2b('\n'.join(lines).encode(), digest_size=16).hexdigest()


def _causes(error):
  """An exception and the exceptions that caused it."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def _read_all(directory):
  """Reads every file; raises the system's `OSError` if one cannot be read."""
  def fail(error):
    raise error

  for folder, _, names in os.walk(directory, onerror=fail):
    for name in names:
      with open(os.path.join(folder, name), 'rb') as f:
        while f.read(2**20):
          pass

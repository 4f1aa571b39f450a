"""Orbax checkpoints: the training state, and beside it the health record that judges it."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from conv_draw.errors import UserError, reason, remedy
from conv_draw.machine import hosts
from conv_draw.progressive import weights
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


# What TensorStore says where bytes are missing or wrong. Others, such as RESOURCE_EXHAUSTED, and
# those with the system's word for them, are of the machine, not of the file.
_STATUS = re.compile('[A-Z_]+:')
_DATA_ERROR = re.compile('(DATA_LOSS|OUT_OF_RANGE|NOT_FOUND|FAILED_PRECONDITION):')
_SYSTEM_ERROR = re.compile(r'OS error (?!\d+: (ENOENT|ENOTDIR|EISDIR)\b)')
_REMOVING = '.removing-'  # a checkpoint on its way out: not to be taken for one if a kill comes


class Checkpoints:
  """The numbered checkpoints of a workdir, each complete or absent.

  Of several processes the first one reads and writes, and tells the others what it has read: only
  its workdir needs to exist. Where it only reads, it does so by itself.
  """

  def __init__(self, workdir, trust_after=None):
    """Opens `workdir`/checkpoints.

    Args:
      trust_after: losses after which a checkpoint is trusted, which decides on those that are
        kept (`spikes.no_longer_needed`). None: only reads, and changes nothing.
    """
    self._directory = os.path.abspath(os.path.join(workdir, 'checkpoints'))
    self._manager, self._trust_after = None, trust_after
    self._together = trust_after is not None and jax.process_count() > 1
    if not hosts.primary():
      return
    writing = trust_after is not None
    alone = {} if jax.process_count() == 1 else {
        'multiprocessing_options': ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix='primary')}
    if alone and writing:
      os.makedirs(self._directory, exist_ok=True)  # which Orbax then leaves to us
    self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=None, create=writing and not alone, read_only=not writing, **alone))
    for name in os.listdir(self._directory) if writing else ():
      if name.startswith(_REMOVING):  # where a kill came
        shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)

  def steps(self):
    """Steps that have a checkpoint, ascending."""
    mine = lambda: sorted(self._manager.all_steps())
    return hosts.from_primary(hosts.on_primary(mine)) if self._together else mine()

  def save(self, state, health):
    """Saves a host `TrainState`, all losses before which were healthy.

    Writing goes on in the background. Older checkpoints that are not needed any more are removed.
    Of several processes the first one writes; what goes wrong there ends all of them.
    """
    with hosts.together():
      if self._manager:
        self._save(state, health)

  def _save(self, state, health):
    self.wait()  # so that what is there is complete
    step = int(state.step)
    for old in spikes.no_longer_needed(self._manager.all_steps(), step, self._trust_after):
      self._remove(old)
    record = dataclasses.asdict(health)
    seals = {'digest': _digest(state, record), 'structure': _structure(state)}
    with self._writing():
      self._manager.save(step, args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), health=ocp.args.JsonSave(record | seals)))

  def restore(self, step, like):
    """Reads a checkpoint.

    Args:
      step: one of `steps()`.
      like: `TrainState` of the expected structure, shapes and types.
    Returns:
      (`TrainState` of host arrays, `spikes.Health`).
    Raises:
      Damaged: it is not what was saved.
      UserError: it cannot be read, for a reason that may not be its own, or is of another model.
    """
    if not self._together:
      return self._read(step, like)
    read = hosts.on_primary(lambda: self._read(step, like), Damaged)
    state, health = read or (jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like), None)
    record = hosts.from_primary(health and dataclasses.asdict(health))
    return hosts.arrays_from_primary(state), spikes.Health(**record)

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
    except Exception as e:  # Orbax does not say which kinds there are
      # TensorStore names the cause behind paths, and at the end what it was to read.
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
    # The first versions of this program wrote no digest, and later ones no structure.
    digest, _ = record.pop('digest', None), record.pop('structure', None)
    known = record.keys() <= {field.name for field in dataclasses.fields(spikes.Health)}
    if digest is None and not known or digest not in (None, _digest(state, record)):
      raise Damaged(f'{where} is damaged (it is not what was saved)')
    if not known:
      raise UserError(f'{where} is of another version of this program: continue with that one')
    return weights.without_encoder(state) if encoder else state, spikes.Health(**record)

  def _encoder_of(self, step, like):
    """{name: shape} of the encoder that checkpoints of progressive models once had."""
    if 'linear_width' not in like.params.get('params', {}):
      return {}
    with ocp.StandardCheckpointer() as checkpointer:
      metadata = checkpointer.metadata(os.path.join(self._directory, str(step), 'state'))
    stored = metadata.item_metadata['params']['params']
    return {name: tuple(stored[name].shape) for name in weights.encoder_of(stored)}

  def _is_damage(self, error, step, like):
    """Whether what went wrong while a checkpoint was read proves that the checkpoint is damaged.

    Else it may be the disk, the memory or the limits of the machine, or another version of Orbax:
    the same checkpoint may be read tomorrow.
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
    try:  # the files can be read, but hold another tree: was it the one that was saved?
      with open(os.path.join(directory, 'health', 'metadata')) as f:
        return json.load(f).get('structure') == _structure(like)
    except (OSError, ValueError, AttributeError):
      return False

  def restore_newest(self, like, warn):
    """`restore` of the newest checkpoint that is not damaged; `warn` is told of those that are.

    If this writes, they are moved aside once a sound one has been found.

    Raises:
      UserError: there is none, or it is of another model, or it cannot be read.
    """
    return self.restore_first(lambda steps: max(steps), like, warn)

  def restore_first(self, choose, like, warn):
    """`restore` of the first choice that is not damaged.

    Args:
      choose: from the steps that are left to the one that is tried next.
      like, warn: as in `restore_newest`.
    """
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
    """Moves a damaged checkpoint to where nothing takes it for one; says where to."""
    if not self._manager or self._trust_after is None:
      return ''
    aside = os.path.join(self._directory, 'damaged')  # inside: it may be a disk of its own
    os.makedirs(aside, exist_ok=True)
    target, number = os.path.join(aside, str(step)), 1
    while os.path.lexists(target):
      number += 1
      target = os.path.join(aside, f'{step}_{number}')
    os.rename(os.path.join(self._directory, str(step)), target)
    self._manager.reload()
    return f', and has been moved to {target}'

  def delete_after(self, step):
    """Removes the checkpoints that are newer than `step`."""
    if not self._manager:
      return
    self.wait()
    for newer in self._manager.all_steps():
      if newer > step:
        self._remove(newer)

  def _remove(self, step):
    with self._writing():
      going = os.path.join(self._directory, f'{_REMOVING}{step}-{secrets.token_hex(4)}')
      os.rename(os.path.join(self._directory, str(step)), going)
      shutil.rmtree(going)
      self._manager.reload()

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
          f'{self._directory} cannot be written ({reason(e)[-200:]}): {remedy(e)}; the '
          'same command then continues') from e


def restore_params(workdir, like):
  """(`TrainState.params_to_use`, step) of a workdir's newest checkpoint.

  Args:
    workdir: of a training run.
    like: `TrainState` of the structure that its configuration gives.
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
  """Hex digest of a host `TrainState` and of the health record as JSON has it."""
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
  """An exception, and those it came of."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def _read_all(directory):
  """Reads every file; `OSError` if the system cannot."""
  def fail(error):
    raise error

  for folder, _, names in os.walk(directory, onerror=fail):
    for name in names:
      with open(os.path.join(folder, name), 'rb') as f:
        while f.read(2**20):
          pass

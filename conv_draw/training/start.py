"""Opens what training reads and writes, and starts or resumes a run."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from conv_draw import build
from conv_draw.data import identity, sets
from conv_draw.data.batches import Batches
from conv_draw.errors import UserError
from conv_draw.machine import devices, hosts, preemption
from conv_draw.training import checkpoints, loss_monitor, steps, trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics as metrics_lib
from conv_draw.workdir import published


class Opened(NamedTuple):
  """The open files, batches and signals of a training run."""

  saved: checkpoints.Checkpoints
  metrics: metrics_lib.Metrics
  batches: Batches
  progress: metrics_lib.Progress
  stopping: Callable[[int], bool]  # step -> whether to save and leave, of `preemption.noted`


def check(config: config_dict.ConfigDict, workdir: str) -> None:
  """Raises `UserError` unless a run with this config can start or resume in `workdir`."""
  devices.check_batch_size('train.batch_size', config.train.batch_size)
  if published.is_one(workdir):
    raise UserError(f'{workdir} holds a finished model: name another --workdir, and '
                    f'--config.train.start_from={workdir} to begin with its parameters')
  config_lib.check_continues(config, workdir)


@contextlib.contextmanager
def opened(config: config_dict.ConfigDict, workdir: str, images: sets.Images) -> Iterator[Opened]:
  """Yields `Opened` for training on `images`, and closes it at the end.

  Raises:
    UserError: another process trains in the workdir, it cannot be written, or its run was trained
      on other images.
  """
  t = config.train
  changed = _check_images(workdir, images)
  with contextlib.ExitStack() as stack:
    open_ = lambda resource: stack.enter_context(contextlib.closing(resource))
    stopping = stack.enter_context(preemption.noted())  # closed last: closing files also saves
    with hosts.together():
      if hosts.primary():
        stack.enter_context(checkpoints.only_process(workdir))
      saved = open_(checkpoints.Checkpoints(workdir, loss_monitor.validated_after(config)))
      metrics = open_(metrics_lib.Metrics(workdir, hosts.primary()))
      batches = open_(Batches(
          images, t.batch_size, t.seed, config.data.workers, config.data.flips,
          config.data.grey, config.data.contrast, jax.process_index(), jax.process_count()))
    progress = open_(metrics_lib.Progress(
        t.steps, max(saved.steps(), default=0), 'step', hosts.primary()))
    for line in filter(None, (changed, images.left_out)):
      progress.say(line)
    yield Opened(saved, metrics, batches, progress, stopping)


def _check_images(workdir, images):
  """The message of `identity.check` on the images to train on, in each process for its own.

  Raises:
    UserError: the run in `workdir` was trained on others, or the processes have different images.
  """
  known = lambda: [trained.stored_identity(workdir), identity.of(images)]
  stored, of_primary = hosts.from_primary(hosts.on_primary(known))
  with hosts.together():
    if identity.of(images) | {'name': ''} != of_primary | {'name': ''}:  # folders may be renamed
      raise UserError(
          f'{images.name}, {len(images)} images, is not what process 0 has, {of_primary["name"]}, '
          f'{of_primary["size"]} images: give all processes the same data')
    return identity.check(stored or of_primary, images, workdir)


def start_or_resume(
    config: config_dict.ConfigDict, workdir: str, images: sets.Images,
    initial_state: steps.TrainState, io: Opened,
) -> tuple[steps.TrainState, loss_monitor.LossMonitor]:
  """The state to continue from: the newest checkpoint, or the initial state, which is saved.

  Args:
    images: to train on.
    initial_state: as `steps.create_state` makes it.
  Returns:
    (host `TrainState`, `LossMonitor`)
  """
  resuming = bool(io.saved.steps())
  if resuming:
    state, monitor = io.saved.restore_newest(initial_state, io.progress.say)
    monitor.reverts_in_a_row = 0  # settings may have changed since the run diverged
    io.metrics.event(int(state.step), 'resume')
  else:
    state = _initialised(config, images, jax.tree.map(np.asarray, initial_state))
    monitor = loss_monitor.LossMonitor()
  size = sum(x.size for x in jax.tree.leaves(state.params))
  with hosts.together():
    if hosts.primary():
      # The log has the new settings before config.json does: a kill in between loses nothing.
      io.metrics.event(
          int(state.step), 'start', data=images.name, images=len(images), parameters=size,
          devices=jax.device_count(), device_kind=jax.devices()[0].device_kind,
          jax=jax.__version__, changed=config_lib.changes(config, workdir))
      config_lib.store(config, workdir)  # from here on the workdir holds a run
      trained.store_images(workdir, images)
  if not resuming:
    io.saved.save(state, monitor)
  io.progress.say(
      f'{workdir}: {images.name}, {len(images)} images; {size:,} parameters; '
      f'{jax.device_count()} {jax.devices()[0].platform} device(s); '
      f'step {int(state.step)} of {config.train.steps}')
  return state, monitor


def _initialised(config, images, state):
  """A new run's `state` with the parameters computed from `images` or from `train.start_from`."""
  if config.model.kind == 'progressive':
    computed = lambda: {**state.params['params'], **build.initial_values(config, images)}
    state = _with_params(state, hosts.arrays_from_primary(
        hosts.on_primary(computed) or state.params['params']))
  if config.train.start_from:
    state = _started_from(config, state)
  return state


def _with_params(state, params):
  """`state` with other parameters, given without their collection 'params'."""
  params = {'params': params}
  return state.replace(params=params, ema_params=None if state.ema_params is None else params)


def _started_from(config, state):
  """`state` with the parameters of the run `train.start_from`, except for modules that it lacks.

  Of convolutional DRAW with more iterations than that run, W of (7) is scaled by the ratio of the
  numbers of iterations: the canvas is a sum over them.
  """
  workdir = config.train.start_from

  def read():
    theirs = config_lib.load(workdir)
    params = trained.read(theirs, workdir).params
    mine = state.params['params']
    if config.model.kind == theirs.model.kind == 'draw' and theirs.model.steps < config.model.steps:
      scale = np.float32(theirs.model.steps / config.model.steps)
      params = {'params': {**params['params'], 'write': scale * params['params']['write']}}
    if 'draw' in mine and 'draw' not in params['params']:  # a canvas for new local pixels
      params = {'params': {**mine, 'draw': params['params']}}
    new = {name for name in mine if name.startswith('restoration')}  # a new post-filter
    if not new & set(params['params']):
      params = {'params': {**params['params'], **{name: mine[name] for name in new}}}
    if jax.tree.map(np.shape, params) != jax.tree.map(np.shape, state.params):
      raise UserError(
          f'train.start_from={workdir} is of a model of other shapes: give the settings of config.'
          'model that it has (posterior: constant, rounded and uniform go together)')
    return params

  return _with_params(state, hosts.arrays_from_primary(
      hosts.on_primary(read) or state.params)['params'])

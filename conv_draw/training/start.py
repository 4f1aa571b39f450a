"""How training begins: what it needs of the workdir is opened, and it starts or resumes."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from conv_draw import build
from conv_draw.data import identity
from conv_draw.data.batches import Batches
from conv_draw.errors import UserError
from conv_draw.machine import devices, hosts, preemption
from conv_draw.training import checkpoints, spikes, trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics as metrics_lib
from conv_draw.workdir import published


class Opened(NamedTuple):
  """What training reads from and writes to, while it lasts."""

  saved: checkpoints.Checkpoints
  metrics: metrics_lib.Metrics
  batches: Batches
  progress: metrics_lib.Progress
  stopping: Callable  # step -> whether SIGTERM came, as `preemption.noted` has it


def check(config, workdir):
  """Raises `UserError` unless a run with this configuration can begin or go on in `workdir`."""
  devices.check_batch_size('train.batch_size', config.train.batch_size)
  if published.is_one(workdir):
    raise UserError(f'{workdir} holds a finished model: name another --workdir, and '
                    f'--config.train.start_from={workdir} to begin with its parameters')
  config_lib.check_continues(config, workdir)


@contextlib.contextmanager
def opened(config, workdir, images):
  """`Opened` for training on `images`, closed at the end.

  Raises:
    UserError: another process trains there, the workdir cannot be written, or the run in it was
      trained on other images.
  """
  t = config.train
  changed = _check_images(workdir, images)
  with contextlib.ExitStack() as stack:
    open_ = lambda resource: stack.enter_context(contextlib.closing(resource))
    stopping = stack.enter_context(preemption.noted())  # the last to end: closing is saving, too
    with hosts.together():
      if hosts.primary():
        stack.enter_context(checkpoints.only_process(workdir))
      saved = open_(checkpoints.Checkpoints(workdir, spikes.trust_after(
          config.spikes, spikes.losses_in_mean(t.batch_size))))
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
  """What `identity.check` says of the images to train on, in each process of its own.

  Raises:
    UserError: the run in `workdir` was trained on others, or the processes have different ones.
  """
  known = lambda: [trained.stored_identity(workdir), identity.of(images)]
  stored, of_primary = hosts.from_primary(hosts.on_primary(known))
  with hosts.together():
    if identity.of(images) | {'name': ''} != of_primary | {'name': ''}:  # folders may be renamed
      raise UserError(
          f'{images.name}, {len(images)} images, is not what process 0 has, {of_primary["name"]}, '
          f'{of_primary["size"]} images: give all processes the same data')
    return identity.check(stored or of_primary, images, workdir)


def start_or_resume(config, workdir, images, initial_state, io):
  """The state to train on from: the newest checkpoint's, or the first one, which is saved.

  Args:
    images: `sets.Images` to train on.
    initial_state: `TrainState` of the structure that the configuration gives.
    io: `Opened`.
  Returns:
    (host `TrainState`, `spikes.Health`)
  """
  resuming = bool(io.saved.steps())
  if resuming:
    state, health = io.saved.restore_newest(initial_state, io.progress.say)
    health.reverts_in_a_row = 0  # whoever started it again may have changed what made it diverge
    io.metrics.event(int(state.step), 'resume')
  else:
    state, health = jax.tree.map(np.asarray, initial_state), spikes.Health()
    if config.model.kind == 'progressive':
      begin = lambda: {**state.params['params'], **build.initial_values(config, images)}
      state = _with_params(state, hosts.arrays_from_primary(
          hosts.on_primary(begin) or state.params['params']))
    if config.train.start_from:
      state = _started_from(config.train.start_from, state)
  size = sum(x.size for x in jax.tree.leaves(state.params))
  with hosts.together():
    if hosts.primary():
      # What changes is written down before it has, so that no kill can come in between.
      io.metrics.event(
          int(state.step), 'start', data=images.name, images=len(images), parameters=size,
          devices=jax.device_count(), device_kind=jax.devices()[0].device_kind,
          jax=jax.__version__, changed=config_lib.changes(config, workdir))
      config_lib.store(config, workdir)  # from here on it is a run
      trained.store_images(workdir, images)
  if not resuming:
    io.saved.save(state, health)
  io.progress.say(
      f'{workdir}: {images.name}, {len(images)} images; {size:,} parameters; '
      f'{jax.device_count()} {jax.devices()[0].platform} device(s); '
      f'step {int(state.step)} of {config.train.steps}')
  return state, health


def _with_params(state, params):
  """`state` with other parameters, as below 'params'."""
  params = {'params': params}
  return state.replace(params=params, ema_params=None if state.ema_params is None else params)


def _started_from(workdir, state):
  """`state` with the parameters of another run."""
  def read():
    params = trained.read(config_lib.load(workdir), workdir).params
    mine = state.params['params']
    if 'draw' in mine and 'draw' not in params['params']:  # to be what new local pixels see
      params = {'params': {**mine, 'draw': params['params']}}
    new = {name for name in mine if name.startswith('restoration')}
    if not new & set(params['params']):
      params = {'params': {**params['params'], **{name: mine[name] for name in new}}}
    if jax.tree.map(np.shape, params) != jax.tree.map(np.shape, state.params):
      raise UserError(
          f'train.start_from={workdir} is of a model of other shapes: give the settings of config.'
          'model that it has (posterior: constant, rounded and uniform go together)')
    return params

  return _with_params(state, hosts.arrays_from_primary(
      hosts.on_primary(read) or state.params)['params'])

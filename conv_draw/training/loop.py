"""The training loop, from top to bottom: batch -> step -> metrics -> spike check -> checkpoint."""

import contextlib
import functools
import math
import time

import jax
import numpy as np

from conv_draw.data import batches as batches_lib
from conv_draw.data import sets
from conv_draw.errors import Preempted, UserError
from conv_draw.machine import devices, hosts, preemption
from conv_draw.model import objective
from conv_draw.model.from_config import from_config
from conv_draw.training import checkpoints, evaluate, spikes, steps, trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics as metrics_lib
from conv_draw.workdir import published


def train(config, workdir, load=sets.load):
  """Trains, or continues training, in `workdir`; returns the host `TrainState` at the end.

  A run is a pure function of its configuration (and of the kind and number of devices): batches
  and noise follow from (seed, reverts, step), so a run that was killed and started again ends with
  the parameters of one that was not.

  Args:
    config: as experiments/default.py.
    load: (config.data, split) -> `sets.Images`.
  Raises:
    Preempted: SIGTERM came; the step that was under way has been saved.
    UserError: training diverges, or something about the workdir or the data.
  """
  devices.check_batch_size('train.batch_size', config.train.batch_size)
  if published.is_one(workdir):
    raise UserError(f'{workdir} holds a finished model: name another --workdir, and '
                    f'--config.train.start_from={workdir} to begin with its parameters')
  config_lib.check_continues(config, workdir)
  images, test_images = load(config.data, 'train'), load(config.data, 'test')
  model = from_config(config, images.shape, images.grey_levels)
  optimizer = steps.create_optimizer(config)
  initial_state = steps.create_state(config, model, optimizer, images.shape)
  train_step = jax.pmap(
      functools.partial(steps.train_step, model=model, optimizer=optimizer, config=config),
      axis_name=steps.AXIS, donate_argnums=0)

  every, total = config.train.checkpoint_every, config.train.steps
  with (
      checkpoints.only_process(workdir) if hosts.primary() else contextlib.nullcontext(),
      contextlib.closing(checkpoints.Checkpoints(
          workdir, keep=spikes.checkpoints_to_keep(every, config.spikes))) as saved,
      contextlib.closing(metrics_lib.Metrics(workdir, hosts.primary())) as metrics,
      contextlib.closing(
          batches_lib.Batches(
              images, config.train.batch_size, config.train.seed, config.data.workers,
              jax.process_index(), jax.process_count())) as batches,
      contextlib.closing(metrics_lib.Progress(
          total, max(saved.steps(), default=0), 'step', hosts.primary())) as progress,
      preemption.noted() as preempted_at,
  ):
    if saved.steps():
      host_state, health = saved.restore_newest(initial_state, progress.say)
      health.reverts_in_a_row = 0  # whoever started it again may have changed what made it diverge
      saved.delete_after(int(host_state.step))  # what was damaged
      metrics.event(int(host_state.step), 'resume')
    else:
      host_state, health = jax.tree.map(np.asarray, initial_state), spikes.Health()
      if config.train.start_from:
        host_state = _started_from(config.train.start_from, host_state)
    if hosts.primary():
      config_lib.store(config, workdir)  # from here on it is a run
      trained.store_images(workdir, images)
    if not saved.steps():
      saved.save(host_state, health)
    state = devices.replicate(host_state)
    step, reverts = int(host_state.step), int(host_state.reverts)
    unread = []  # (step, metrics still on their way from the devices)
    interval = _Interval(images.shape, config.train.batch_size)
    leave = functools.partial(_leave, workdir, saved, health, metrics)
    size = sum(x.size for x in jax.tree.leaves(initial_state.params))
    metrics.event(
        step, 'start', data=images.name, parameters=size, devices=jax.device_count(),
        device_kind=jax.devices()[0].device_kind, jax=jax.__version__)
    progress.say(
        f'{workdir}: {images.name}, {len(images)} images; {size:,} parameters; '
        f'{jax.device_count()} {jax.devices()[0].platform} device(s); step {step} of {total}')
    while step < total:
      state, step_metrics = train_step(state, batches.take(step, reverts))
      unread.append((step, step_metrics))
      step += 1
      preempted = preempted_at(step)
      checkpointing = step % every == 0 or step == total or preempted
      evaluating = (
          config.train.evaluate_every and step % config.train.evaluate_every == 0 and step < total)
      if checkpointing or evaluating:
        host_state = devices.unreplicate(state)
      if step == total:  # the last update too must show a healthy loss; this one is dropped
        state, step_metrics = train_step(state, batches.take(step, reverts))
        unread.append((step, step_metrics))

      spiked = False
      # Read one step late, so that the devices never wait for the host.
      while len(unread) > (0 if checkpointing or evaluating else 1):
        measured_at, values = unread.pop(0)
        values = {name: float(value) for name, value in devices.unreplicate(values).items()}
        loss = values['loss']
        spiked = spikes.is_spike(health, loss, config.spikes)
        if spiked:
          break
        if measured_at == total:
          continue  # that loss was only to show that the last update was sound
        spikes.record_healthy(health, measured_at, loss, config.spikes)
        interval.add(values)
        progress.at(measured_at + 1)
        if (measured_at + 1) % config.train.log_every == 0 or measured_at + 1 == total:
          line = interval.close()
          metrics.write(measured_at + 1, 'train', line)
          progress.tell(
              measured_at + 1, f'{line["bits_per_dim"]:.4f} bits/dim  {line["nats"]:.2f} nats  '
              f'{line.get("images_per_second", math.nan):.1f} images/s')

      if spiked:
        target = spikes.newest_trusted(saved.steps(), measured_at, config.spikes)
        saved.delete_after(target)  # also if the run ends here: it must not continue with those
        spikes.record_revert(health, measured_at, config.spikes)
        host_state, restored_health = saved.restore(target, initial_state)
        health.losses = restored_health.losses
        reverts += 1  # moves data and noise on: the same batches would spike again
        host_state = host_state.replace(reverts=np.asarray(reverts, np.int32))
        state, step, unread = devices.replicate(host_state), target, []
        interval.forget()
        metrics.event(measured_at, 'revert', loss=loss, to_step=target, reverts=reverts)
        progress.say(f'step {measured_at}: loss {loss:.4g} is a spike; reverted to step {target}')
        continue

      if checkpointing:
        saved.save(host_state, health)
      if preempted:
        leave(host_state)
      if evaluating:
        with interval.paused():
          params = host_state.params if host_state.ema_params is None else host_state.ema_params
          result = evaluate.evaluate(
              config, model, params, test_images,
              lambda done, step=step, state=host_state: preempted_at(step) and leave(state))
          evaluate.write(metrics, step, result, test_images, config)
        bits = objective.bits_per_dim(result.nats, test_images.shape)
        progress.say(f'step {step}: test {bits:.4f} bits/dim, {result.nats:.2f} nats')
    if preempted_at(step):
      leave(host_state)
  return host_state


def _leave(workdir, saved, health, metrics, host_state):
  """Saves what is not saved yet, and raises `Preempted`."""
  step = int(host_state.step)
  if step not in saved.steps():
    saved.save(host_state, health)
  saved.wait()
  metrics.event(step, 'preempted')
  raise Preempted(f'{workdir} is saved at step {step}: the same command continues')


def _started_from(workdir, state):
  """`state` with the parameters of another run."""
  _, params, _, _ = trained.load_model(config_lib.load(workdir), workdir)
  if jax.tree.map(np.shape, params) != jax.tree.map(np.shape, state.params):
    raise UserError(
        f'train.start_from={workdir} is of a model of other shapes: give the settings of config.'
        'model that it has (posterior: constant, rounded and uniform go together)')
  ema_params = None if state.ema_params is None else params
  return state.replace(params=params, ema_params=ema_params)


class _Interval:
  """Averages of the metrics between two lines of the log."""

  def __init__(self, image_shape, batch_size):
    self._image_shape, self._batch_size = image_shape, batch_size
    self._opened = time.monotonic()
    self.forget()

  def forget(self):
    """Drops the steps since the last line, which a spike has undone, but not their time."""
    self._began, self._values = None, []

  def add(self, values):
    self._values.append(values)
    if self._began is None:  # from here on: the first step of a run has compiled
      self._began, self._before = time.monotonic(), len(self._values)

  @contextlib.contextmanager
  def paused(self):
    """Inside, time passes that is not the training steps'."""
    began = time.monotonic()
    yield
    if self._began is not None:
      self._began += time.monotonic() - began

  def close(self):
    """Means since the last call, the throughput and the time."""
    now = time.monotonic()
    line = {
        name: math.fsum(v[name] for v in self._values) / len(self._values)
        for name in self._values[0]}
    line['bits_per_dim'] = objective.bits_per_dim(line['nats'], self._image_shape)
    images = (len(self._values) - self._before) * self._batch_size
    if images:  # not where the only step was the one that compiled
      line['images_per_second'] = images / max(now - self._began, 1e-9)
    line['seconds'] = now - self._opened  # what was spent, compilation and all
    self._opened, self._began, self._values, self._before = now, now, [], 0
    return line

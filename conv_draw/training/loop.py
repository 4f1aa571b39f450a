"""The training loop, from top to bottom: batch -> step -> metrics -> spike check -> checkpoint."""

import functools
import math

import jax
import numpy as np

from conv_draw.build import from_config
from conv_draw.data import sets
from conv_draw.errors import Preempted
from conv_draw.machine import devices, hosts
from conv_draw.model import objective
from conv_draw.training import evaluate, spikes, start, steps, trained
from conv_draw.training.interval import Interval


def train(config, workdir, load=None):
  """Trains, or continues training, in `workdir`; returns the `trained.Run` at the end.

  A run is a pure function of its configuration (and of the kind and number of devices): batches
  and noise follow from (seed, reverts, step), so a run that was killed and started again ends with
  the parameters of one that was not.

  Args:
    config: as experiments/default.py.
    load: split -> `sets.Images`; None: those of `config.data`.
  Raises:
    Preempted: SIGTERM came; the step that was under way has been saved.
    UserError: training diverges, or something about the workdir or the data.
  """
  load = load or functools.partial(sets.load, config.data)
  with hosts.together():
    start.check(config, workdir)
    images, test_images = load('train'), load('test')
  model = from_config(config, images.shape, images.grey_levels)
  optimizer = steps.create_optimizer(config, model)
  initial_state = steps.create_state(config, model, optimizer, images.shape)
  train_step = jax.pmap(
      functools.partial(steps.train_step, model=model, optimizer=optimizer, config=config),
      axis_name=devices.AXIS, donate_argnums=0)

  def update(state, batch):
    with jax.transfer_guard('allow'):  # the batch's, to the devices
      return train_step(state, batch)

  run_of = lambda state: trained.of_state(config, workdir, model, state, test_images)

  total, evaluate_every = config.train.steps, config.train.evaluate_every
  with start.opened(config, workdir, images) as io:
    host_state, health = start.start_or_resume(config, workdir, images, initial_state, io)
    state, step = devices.replicate(host_state), int(host_state.step)
    reverts = int(host_state.reverts)
    unread = []  # (step, metrics still on their way from the devices)
    interval = Interval(images.shape, config.train.batch_size)
    while step < total:
      state, values = update(state, io.batches.take(step, reverts))
      unread.append((step, values))
      step += 1
      stopping = io.stopping(step)
      checkpointing = step % config.train.checkpoint_every == 0 or step == total or stopping
      evaluating = evaluate_every and step % evaluate_every == 0 and step < total
      if checkpointing or evaluating:
        host_state = devices.unreplicate(state)
      if step == total:  # the last update too must show a healthy loss; this one is dropped
        state, values = update(state, io.batches.take(step, reverts))
        unread.append((step, values))

      # Read one step late, so that the devices never wait for the host.
      spike = _read(
          unread, 0 if checkpointing or evaluating else 1, health, interval, config, io)
      if spike:
        reverts += 1  # moves data and noise on: the same batches would spike again
        host_state = _revert(*spike, reverts, health, initial_state, config, io)
        state, step = devices.replicate(host_state), int(host_state.step)
        unread = []
        interval.forget()
        continue

      if checkpointing:
        io.saved.save(host_state, health)
      if stopping:
        _leave(workdir, host_state, health, io)
      if evaluating:
        with interval.paused():
          result = _evaluate(run_of(host_state), io)
        if result is None:
          _leave(workdir, host_state, health, io)
    if io.stopping(step):
      _leave(workdir, host_state, health, io)
  return run_of(host_state)


def _read(unread, but, health, interval, config, io):
  """Reads, judges and logs the metrics of the steps in `unread`, oldest first, `but` the newest.

  Returns:
    (step, loss) of a spike, after which nothing more is read; None if there was none.
  """
  t, n = config.train, spikes.losses_in_mean(config.train.batch_size)
  while len(unread) > but:
    step, values = unread.pop(0)
    values = {name: float(value) for name, value in devices.unreplicate(values).items()}
    loss = values['loss']
    if spikes.is_spike(health, loss, config.spikes, n):
      return step, loss
    if step == t.steps:
      continue  # that loss was only to show that the last update was sound
    spikes.record_healthy(health, step, loss, config.spikes, n)
    interval.add(values)
    done = step + 1
    io.progress.at(done)
    if done % t.log_every == 0 or done == t.steps:
      line = interval.close()
      with hosts.together():
        io.metrics.write(done, 'train', line)
      io.progress.tell(
          done, f'{line["bits_per_dim"]:.4f} bits/dim  {line["nats"]:.2f} nats  '
          f'{line.get("images_per_second", math.nan):.1f} images/s')
  return None


def _revert(step, loss, reverts, health, initial_state, config, io):
  """Goes back to before the spike at `step`; the host `TrainState` there, with that many reverts.

  Raises:
    UserError: training diverges.
  """
  trust_after = spikes.trust_after(
      config.spikes, spikes.losses_in_mean(config.train.batch_size))
  choose = lambda checkpoints: spikes.newest_trusted(checkpoints, step, trust_after)
  host_state, restored_health = io.saved.restore_first(choose, initial_state, io.progress.say)
  target = int(host_state.step)
  io.saved.delete_after(target)  # also if the run ends here: it must not continue with those
  spikes.record_revert(health, step, config.spikes)
  health.losses = restored_health.losses
  io.metrics.event(step, 'revert', loss=loss, to_step=target, reverts=reverts)
  io.progress.say(f'step {step}: loss {loss:.4g} is a spike; reverted to step {target}')
  return host_state.replace(reverts=np.asarray(reverts, np.int32))


def _evaluate(run, io):
  """Scores the test split and writes the result down; None if SIGTERM came meanwhile."""
  result = evaluate.evaluate(run, should_stop=lambda: io.stopping(run.step))
  if result is not None:
    evaluate.write(io.metrics, run, result)
    bits = objective.bits_per_dim(result.nats, run.images.shape)
    io.progress.say(f'step {run.step}: test {bits:.4f} bits/dim, {result.nats:.2f} nats')
    if result.squared_error is not None:
      io.progress.say('  ' + evaluate.prefixes(run, result))
  return result


def _leave(workdir, host_state, health, io):
  """Saves what is not saved yet, and raises `Preempted`."""
  step = int(host_state.step)
  if step not in io.saved.steps():
    io.saved.save(host_state, health)
  with hosts.together():
    io.saved.wait()
  io.metrics.event(step, 'preempted')
  raise Preempted(f'{workdir} is saved at step {step}: the same command continues')

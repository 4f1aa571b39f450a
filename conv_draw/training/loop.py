"""The training loop: batch, update, metrics, spike check, checkpoint, evaluation."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import config_dict

from conv_draw.build import from_config
from conv_draw.data import sets
from conv_draw.errors import Preempted
from conv_draw.machine import devices, hosts
from conv_draw.model import objective
from conv_draw.training import evaluate, loss_monitor, start, steps, trained
from conv_draw.training.interval import Interval


def train(config: config_dict.ConfigDict, workdir: str,
          load: Callable[[str], sets.Images] | None = None) -> trained.Run:
  """The `trained.Run` after training, or continuing to train, in `workdir`.

  A run is a pure function of its configuration and of the kind and number of devices. Batches and
  noise depend on (seed, reverts, step) only, so a run that is killed and resumed ends with the
  same parameters as an uninterrupted run.

  Args:
    config: as experiments/default.py.
    load: maps a split to its images; default: the data set of `config.data`.
  Raises:
    Preempted: SIGTERM or Ctrl-C; the step under way has been saved.
    UserError: training diverges, or a mistake in the workdir or the data.
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
    with jax.transfer_guard('allow'):  # the batch goes to the devices
      return train_step(state, batch)

  run_of = lambda state: trained.of_state(config, workdir, model, state, test_images)

  total, evaluate_every = config.train.steps, config.train.evaluate_every
  with start.opened(config, workdir, images) as io:
    host_state, monitor = start.start_or_resume(config, workdir, images, initial_state, io)
    state, step = devices.replicate(host_state), int(host_state.step)
    reverts = int(host_state.reverts)
    unread = []  # (step, metrics that the devices may still be computing)
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
      if step == total:  # one more loss, to validate the last update; its own update is dropped
        state, values = update(state, io.batches.take(step, reverts))
        unread.append((step, values))

      # Metrics are read one step late, so that the devices never wait for the host.
      spike = _read(
          unread, 0 if checkpointing or evaluating else 1, monitor, interval, config, io)
      if spike:
        reverts += 1  # changes data and noise: the same batches would spike again
        host_state = _revert(*spike, reverts, monitor, initial_state, config, io)
        state, step = devices.replicate(host_state), int(host_state.step)
        unread = []
        interval.forget()
        continue

      if checkpointing:
        io.saved.save(host_state, monitor)
      if stopping:
        _leave(workdir, host_state, monitor, io)
      if evaluating:
        with interval.paused():
          result = _evaluate(run_of(host_state), io)
        if result is None:
          _leave(workdir, host_state, monitor, io)
    if io.stopping(step):
      _leave(workdir, host_state, monitor, io)
  return run_of(host_state)


def _read(unread, leave, monitor, interval, config, io):
  """Checks and logs the metrics in `unread`, oldest first, except for the newest `leave` ones.

  Returns:
    (step, loss) of a spike, at which reading ends; None without a spike.
  """
  t = config.train
  while len(unread) > leave:
    step, values = unread.pop(0)
    values = {name: float(value) for name, value in devices.unreplicate(values).items()}
    loss = values['loss']
    if monitor.is_spike(loss, config):
      return step, loss
    if step == t.steps:
      continue  # this loss only validates the last update
    monitor.add_healthy(step, loss, config)
    interval.add(values)
    done = step + 1
    io.progress.at(done)
    if done % t.log_every == 0 or done == t.steps:
      line = interval.close()
      with hosts.together():
        io.metrics.write(done, 'train', line)
      rate = f'{line["images_per_second"]:.1f}' if 'images_per_second' in line else 'n/a'
      io.progress.tell(
          done, f'{line["bits_per_dim"]:.4f} bits/dim  {line["nats"]:.2f} nats  {rate} images/s')
  return None


def _revert(step, loss, reverts, monitor, initial_state, config, io):
  """The host `TrainState` of the newest validated checkpoint before the spike at `step`.

  Args:
    reverts: of the run so far, stored in the returned state.
  Raises:
    UserError: training diverges.
  """
  after = loss_monitor.validated_after(config)
  choose = lambda checkpoints: loss_monitor.newest_validated(checkpoints, step, after)
  host_state, restored_monitor = io.saved.restore_first(choose, initial_state, io.progress.say)
  target = int(host_state.step)
  io.saved.delete_after(target)  # even if the run ends here: it must not resume from those
  monitor.add_revert(step, config)
  monitor.losses = restored_monitor.losses
  io.metrics.event(step, 'revert', loss=loss, to_step=target, reverts=reverts)
  io.progress.say(f'step {step}: loss {loss:.4g} is a spike; reverted to step {target}')
  return host_state.replace(reverts=np.asarray(reverts, np.int32))


def _evaluate(run, io):
  """The `evaluate.Result` of the test split, also logged; None if the program is to stop."""
  result = evaluate.evaluate(run, should_stop=lambda: io.stopping(run.step))
  if result is not None:
    evaluate.write(io.metrics, run, result)
    bits = objective.bits_per_dim(result.nats, run.images.shape)
    io.progress.say(f'step {run.step}: test {bits:.4f} bits/dim, {result.nats:.2f} nats')
    if result.squared_error is not None:
      io.progress.say('  ' + evaluate.truncation_points(run, result))
  return result


def _leave(workdir, host_state, monitor, io):
  """Saves the state unless it has been saved, and raises `Preempted`."""
  step = int(host_state.step)
  if step not in io.saved.steps():
    io.saved.save(host_state, monitor)
  with hosts.together():
    io.saved.wait()
  io.metrics.event(step, 'preempted')
  raise Preempted(f'{workdir} is saved at step {step}: the same command continues')

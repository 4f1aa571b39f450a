"""Short training runs with random interruptions, each of which must end correctly.

    python -m benchmarks.schedules                  # 200 schedules

Each schedule trains a tiny model on digits, with a batch of 1, 2, 4, 8 or 16 and a random interval
between checkpoints. At random steps there are kills (at times with a half-written or half-removed
checkpoint and a cut line of the log), SIGTERM, and bad updates, after which the loss is NaN or
huge. Between runs, the newest or oldest checkpoint is damaged. The same call follows each
interruption, as from a scheduler.

Each schedule must reach the last step with finite parameters, which equal those of an undisturbed
run bit for bit if no update was bad. Prints one line of JSON; exits with status 1 if a schedule
failed.

All schedules run in one process, so that each batch size is compiled once; benchmarks/kills.py
kills real processes.
"""

import collections
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import time

# Compiling takes longer than running a tiny model. To be set before JAX is imported.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')

import jax
import numpy as np
from absl import app, flags

from conv_draw import command_line
from conv_draw.data.batches import Batches
from conv_draw.errors import Preempted, UserError
from conv_draw.machine import streams
from conv_draw.training import loop, steps
from conv_draw.workdir import metrics
from experiments import digits

PROGRAM = 'benchmarks.schedules'

SCHEDULES = flags.DEFINE_integer('schedules', 200, 'Number of schedules.')
SEED = flags.DEFINE_integer('seed', 0, 'Of the first schedule; the others have the next ones.')

STEPS = 80
BATCH_SIZES = (1, 2, 4, 8, 16)
BAD = {'nan': np.nan, 'huge': 30.0}  # factors by which bad updates multiply the parameters


class Killed(BaseException):
  """Stands for SIGKILL."""


class Interruptions:
  """The interruptions of one training run; each happens once."""

  def __init__(self, rng):
    some = lambda most: rng.integers(1, STEPS, rng.integers(0, most + 1)).tolist()
    self.rng, self.counts, self.step = rng, collections.Counter(), 0
    self.pending = [*((s, 'kill') for s in some(3)), *((s, 'sigterm') for s in some(3))]
    self.bad = {s: str(rng.choice(list(BAD))) for s in some(2)} if rng.random() < 0.5 else {}

  def before(self, step):
    """Interrupts, or not, before the update of a step."""
    self.step = step
    for now in [i for i in self.pending if i[0] == step]:
      self.pending.remove(now)
      self.counts[now[1]] += 1
      if now[1] == 'kill':
        raise Killed
      signal.raise_signal(signal.SIGTERM)

  def after(self, state):
    """The state after the update of the step, which may be bad."""
    kind = self.bad.pop(self.step, None)
    if kind is None:
      return state
    self.counts[kind] += 1
    return state.replace(params=jax.tree.map(lambda x: x * BAD[kind], state.params))

  def meanwhile(self, workdir, killed):
    """Changes the workdir between two runs."""
    directory, rng = f'{workdir}/checkpoints', self.rng
    saved = sorted(int(name) for name in os.listdir(directory) if name.isdigit())
    path = lambda step: f'{directory}/{step}'
    if killed and rng.random() < 0.5:
      with open(f'{workdir}/{metrics.FILE}', 'a') as f:
        f.write('{"step": 1')
    if killed and len(saved) > 1 and rng.random() < 0.5:  # killed while writing it
      self.counts['half_written'] += 1
      newest = saved.pop()
      shutil.rmtree(f'{path(newest)}/health')
      os.rename(path(newest), f'{path(newest)}.orbax-checkpoint-tmp')
    if killed and len(saved) > 3 and rng.random() < 0.3:  # killed while removing it
      self.counts['half_removed'] += 1
      oldest = saved.pop(0)
      os.rename(path(oldest), f'{directory}/.removing-{oldest}-0')
    if len(saved) > 2 and rng.random() < 0.6:  # another remains sound
      end = rng.choice([0, -1])
      self.counts['damaged_oldest' if end == 0 else 'damaged_newest'] += 1
      _damage(path(saved[end]), rng)


def _damage(checkpoint, rng):
  """Cuts a file, removes it or flips a bit of it."""
  files = sorted(
      (os.path.join(folder, name) for folder, _, names in os.walk(checkpoint) for name in names),
      key=lambda path: (os.path.getsize(path), path))
  files = [*files[-4:], f'{checkpoint}/health/metadata']  # the others matter little
  file = files[rng.integers(len(files))]
  size, how = os.path.getsize(file), rng.integers(3)
  if how == 0:
    os.remove(file)
  elif how == 1 or not size:
    os.truncate(file, size // 2)
  else:
    with open(file, 'rb+') as f:
      at = int(rng.integers(size))
      f.seek(at)
      byte = f.read(1)[0]
      f.seek(at)
      f.write(bytes([byte ^ 1 << int(rng.integers(8))]))


class Trainer:
  """Calls `loop.train` with `Interruptions`; compiles the training step once for a batch size."""

  def __init__(self):
    self.interruptions, compiled, states = None, {}, []
    pmap, take, create_state = jax.pmap, Batches.take, steps.create_state

    def once(function, **named):
      if getattr(function, 'func', None) is not steps.train_step:
        return pmap(function, **named)
      batch_size = function.keywords['config'].train.batch_size
      step = compiled.setdefault(batch_size, pmap(function, **named))

      def disturbed(state, images):
        state, values = step(state, images)
        return (self.interruptions.after(state) if self.interruptions else state), values

      return disturbed

    def watched(batches, step, reverts):
      if self.interruptions:
        self.interruptions.before(step)
      return take(batches, step, reverts)

    def one_state(*arguments):
      if not states:  # it does not depend on the batch size
        states.append(create_state(*arguments))
      return states[0]

    jax.pmap, Batches.take, steps.create_state = once, watched, one_state

  def train(self, workdir, config, interruptions=None):
    """The `trained.Run` after all interruptions."""
    self.interruptions = interruptions
    while True:
      try:
        return loop.train(config, workdir)
      except Killed:
        interruptions.meanwhile(workdir, killed=True)
      except Preempted:
        interruptions.meanwhile(workdir, killed=False)


def configuration(batch_size, every, trust_after):
  config = digits.with_adam(digits.get_config())
  config.model.update(steps=2, features=4, latents=2)
  config.train.update(
      steps=STEPS, batch_size=batch_size, checkpoint_every=every, log_every=20, warmup_steps=0,
      schedule='constant')
  config.spikes.trust_after = trust_after
  return config


def schedule(trainer, undisturbed, workdir, seed):
  """(counts of the events, a description of the failure or '')."""
  rng = np.random.default_rng(seed)
  batch_size = int(rng.choice(BATCH_SIZES))
  config = configuration(batch_size, int(rng.choice([3, 7, 20])), int(rng.choice([2, 5, 10])))
  interruptions = Interruptions(rng)
  clean = not interruptions.bad
  try:
    run = trainer.train(workdir, config, interruptions)
  except UserError as e:
    return interruptions.counts, f'ended: {e}'
  events = [line['event'] for line in metrics.read(workdir) if 'event' in line]
  interruptions.counts.update(reverts=events.count('revert'), compared=clean)
  aside = f'{workdir}/checkpoints/damaged'
  interruptions.counts['moved_aside'] += len(os.listdir(aside)) if os.path.isdir(aside) else 0
  leaves = jax.tree.leaves(run.params)
  if run.step != STEPS or not all(np.isfinite(x).all() for x in leaves):
    return interruptions.counts, f'step {run.step}, or parameters are not finite'
  if clean and not all(map(np.array_equal, leaves, jax.tree.leaves(undisturbed(batch_size)))):
    return interruptions.counts, f'parameters differ from the undisturbed run (events: {events})'
  return interruptions.counts, ''


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, 'the temporary directory'):
    command_line.check_given(argv)
    run()


def run():
  """Exits with status 0 if no schedule failed, else 1."""
  began, trainer, counts, failed = time.monotonic(), Trainer(), collections.Counter(), {}
  with tempfile.TemporaryDirectory(prefix='conv_draw_schedules_') as directory:

    @functools.cache
    def undisturbed(batch_size):
      return trainer.train(
          f'{directory}/undisturbed_{batch_size}', configuration(batch_size, 20, 10)).params

    for seed in range(SEED.value, SEED.value + SCHEDULES.value):
      workdir = f'{directory}/{seed}'
      happened, wrong = schedule(trainer, undisturbed, workdir, seed)
      counts.update(happened)
      if wrong:
        failed[seed] = wrong
        print(f'schedule {seed}: {wrong}', file=sys.stderr, flush=True)
      shutil.rmtree(workdir)
  print(json.dumps({'schedules': SCHEDULES.value, 'failed': failed, **dict(sorted(counts.items())),
                    'seconds': round(time.monotonic() - began, 1)}))
  sys.exit(bool(failed))


if __name__ == '__main__':
  streams.complete()
  app.run(main, flags_parser=command_line.parse_flags(PROGRAM))

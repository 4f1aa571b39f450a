"""Kills training at random moments, restarts it, and compares the result with an undisturbed run.

    python -m benchmarks.kills                 # 50 kills, half an hour on two cores

Trains digits.py undisturbed, then again with SIGKILL at random moments, from the start of the
program to the middle of a checkpoint, each followed by the same command. The final checkpoints must
be equal bit for bit. Prints a line for each kill.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from conv_draw import command_line
from conv_draw.errors import UserError
from conv_draw.workdir import metrics

PROGRAM = 'benchmarks.kills'

KILLS = flags.DEFINE_integer('kills', 50, 'Number of kills.')
STEPS = flags.DEFINE_integer('steps', 2500, 'Training steps.')
SEED = flags.DEFINE_integer('seed', 0, 'Of the random moments.')

EVERY = 20  # steps between checkpoints


def start(workdir):
  log = open(f'{workdir}.log', 'a')
  return subprocess.Popen(
      [sys.executable, 'launch.py', '--config=experiments/digits.py', f'--workdir={workdir}',
       '--config.train.optimizer=adam', '--config.train.learning_rate=2e-3',
       f'--config.train.steps={STEPS.value}', f'--config.train.checkpoint_every={EVERY}',
       f'--config.train.log_every={EVERY}', '--config.figures.samples=4'],
      stdout=log, stderr=log, start_new_session=True)


def finish(workdir):
  if start(workdir).wait():
    raise UserError(f'{workdir} did not end: see {workdir}.log')


def checkpoints(workdir):
  """(step of the newest complete checkpoint, whether another is being written)."""
  try:
    names = os.listdir(f'{workdir}/checkpoints')
  except FileNotFoundError:
    return None, False
  return max((int(n) for n in names if n.isdigit()), default=None), not all(map(str.isdigit, names))


def arrays(workdir):
  """{path: bytes} of the arrays of the final checkpoint."""
  import jax
  import orbax.checkpoint as ocp
  with ocp.StandardCheckpointer() as checkpointer:
    tree = checkpointer.restore(f'{workdir}/checkpoints/{STEPS.value}/state')
  return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def kill(workdir, rng):
  """Starts the program and kills it. Returns what it was doing."""
  process, (first, _) = start(workdir), checkpoints(workdir)
  if rng.random() < 0.2:  # while it starts
    time.sleep(rng.uniform(0, 10))
  else:
    while checkpoints(workdir)[0] == first and process.poll() is None:
      time.sleep(0.01)
    wanted = rng.random() < 0.5  # while it writes a checkpoint
    time.sleep(rng.uniform(0, 1))
    while wanted and not checkpoints(workdir)[1] and process.poll() is None:
      time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.1) if wanted else 0)
  if process.poll() is not None:
    raise UserError(f'training has ended before all kills were made, or failed: see {workdir}.log')
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  return 'writing a checkpoint' if checkpoints(workdir)[1] else 'other'


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, 'the temporary directory'):
    command_line.check_given(argv)
    run()


def run():
  """Exits with status 0 if no array differs, else 1."""
  rng = np.random.default_rng(SEED.value)
  with tempfile.TemporaryDirectory(prefix='conv_draw_kills_') as directory:
    whole, killed = f'{directory}/whole', f'{directory}/killed'
    finish(whole)
    for number in range(KILLS.value):
      doing = kill(killed, rng)
      step, _ = checkpoints(killed)
      print(f'kill {number + 1}: {doing}; newest checkpoint {step}', flush=True)
    finish(killed)
    resumed = [e['step'] for e in metrics.read(killed) if e.get('event') == 'resume']
    a, b = arrays(whole), arrays(killed)
    assert a.keys() == b.keys()
    differ = [path for path in a if a[path] != b[path]]
    print(f'{KILLS.value} kills, {len(resumed)} resumed at steps {resumed}')
    print(f'{len(a)} arrays, of which {len(differ)} differ: {differ}')
    sys.exit(bool(differ))


if __name__ == '__main__':
  command_line.start(PROGRAM, main)

"""The real command line, in child processes."""

import os
import subprocess
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = (
    '--config=experiments/digits.py', '--config.model.features=4', '--config.model.steps=3',
    '--config.model.latents=2', '--config.train.batch_size=8', '--config.train.log_every=1',
    '--config.train.checkpoint_every=4', '--config.train.steps=12',
    '--config.evaluate.max_images=20', '--config.figures.samples=4')


def start(*arguments, **variables):
  # The program chooses its own devices: what the tests' process was given must not leak.
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'} | variables
  return subprocess.Popen(
      [sys.executable, 'launch.py', *arguments], cwd=ROOT, env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def launch(*arguments, **variables):
  process = start(*arguments, **variables)
  out, error = process.communicate(timeout=300)
  return process.returncode, out, error


def restored(workdir, step=12):
  """The training state of a checkpoint, as nested dicts of host arrays."""
  import orbax.checkpoint as ocp  # noqa: PLC0415

  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(
        os.path.join(os.path.abspath(workdir), 'checkpoints', str(step), 'state'))


def saved(workdir, step=12):
  """All arrays of a checkpoint, as bytes."""
  tree = restored(workdir, step)
  import jax  # noqa: PLC0415

  return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]

"""Runs the real command line in child processes, and reads its checkpoints."""

import importlib.metadata
import os
import subprocess
import sys

import numpy as np

# JAX's name of the accelerator for the tests marked `accelerator`; no other tests run then.
ACCELERATOR = os.environ.get('CONV_DRAW_ACCELERATOR', '')
# Tiny models compile for longer than they run; these flags save two thirds of it or more.
QUICK = '--xla_backend_optimization_level=0'
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  QUICK += ' --xla_cpu_use_fusion_emitters=false'  # unknown to later versions
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = (
    '--config=experiments/digits.py', '--config.train.optimizer=adam',
    '--config.train.learning_rate=2e-3', '--config.model.features=4', '--config.model.steps=3',
    '--config.model.latents=2', '--config.train.batch_size=8', '--config.train.log_every=1',
    '--config.train.checkpoint_every=4', '--config.train.steps=12',
    '--config.evaluate.max_images=20', '--config.figures.samples=4')


def environment(**variables):
  """Variables for a child process with two CPU devices, or with the accelerator."""
  if ACCELERATOR:
    return os.environ | variables
  return os.environ | {'XLA_FLAGS': QUICK, 'JAX_NUM_CPU_DEVICES': '2'} | variables


def start(*arguments, **variables):
  return subprocess.Popen(
      [sys.executable, 'launch.py', *arguments], cwd=ROOT, env=environment(**variables), text=True,
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

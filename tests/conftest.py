"""Eight simulated devices, one cache of compiled programs, and models that compile fast."""

import functools
import os
import signal
import tempfile

# Shells start background jobs with SIGINT ignored, which child processes would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.program import ACCELERATOR, QUICK, TINY, launch

if not ACCELERATOR:
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ.setdefault('XLA_FLAGS', f'--xla_force_host_platform_device_count=8 {QUICK}')
else:
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # child processes need some too
# What one test, worker or child process has compiled, the others load. The workers inherit the
# folder from the process that starts them; a folder given beforehand outlives the tests.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  CACHE = tempfile.TemporaryDirectory(prefix='conv_draw_tests_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = CACHE.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

import jax
import numpy as np
import pytest

from conv_draw import GaussianPixels
from conv_draw.model.conv_draw import ConvDraw
from experiments import digits
from tests.tiny import tiny


def pytest_collection_modifyitems(items):
  """Runs either the tests of an accelerator or all others: their devices differ."""
  reasons = {
      True: 'an accelerator is asked for by CONV_DRAW_ACCELERATOR=gpu or tpu',
      False: f'only the tests of an accelerator run with CONV_DRAW_ACCELERATOR={ACCELERATOR}'}
  for item in items:
    of_accelerator = item.get_closest_marker('accelerator') is not None
    if of_accelerator != bool(ACCELERATOR):
      item.add_marker(pytest.mark.skip(reason=reasons[of_accelerator]))


@pytest.fixture(autouse=True, scope='module')
def few_memory_maps():
  """Lets go of compiled programs before Linux's limit on a process's memory maps, 65,530, is near.

  Each program takes some dozens; a process that could map no more would die while it loads one.
  """
  maps = '/proc/self/maps'
  if os.path.exists(maps):
    with open(maps) as f:
      if sum(1 for _ in f) > 20_000:
        jax.clear_caches()


@pytest.fixture
def config():
  return tiny(digits.get_config())


@pytest.fixture(scope='session')
def images():
  """[3, 7, 9, 2] uint8 of 17 grey levels: both sides odd, so that every test meets padding."""
  return np.random.default_rng(0).integers(0, 17, (3, 7, 9, 2)).astype(np.uint8)


@pytest.fixture(scope='session')
def model():
  return ConvDraw(channels=2, pixels=GaussianPixels(17), iterations=3, features=4, latents=2)


@pytest.fixture(scope='session')
def params(model, images):
  """Random parameters, all of them: biases and the canvas count in what is compared."""
  key = jax.random.key(1)
  params = jax.jit(model.init)(key, key, images)
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(key, len(leaves))
  noise = [0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
  return jax.tree.map(lambda x, n: x + n, params, jax.tree.unflatten(structure, noise))


@pytest.fixture(scope='session')
def infer(model):
  return jax.jit(model.apply)


@pytest.fixture(scope='session')
def reconstruct(model):
  return jax.jit(functools.partial(model.apply, method='reconstruct'))


@pytest.fixture(scope='session')
def run(tmp_path_factory):
  """A finished run of `program.TINY`: (workdir, stdout, stderr)."""
  workdir = str(tmp_path_factory.mktemp('run'))
  status, out, error = launch(*TINY, f'--workdir={workdir}')
  assert status == 0, error
  return workdir, out, error

"""Times one training step: forward, backward and update, as `launch.py` runs it.

  python -m benchmarks.train_step --config=experiments/digits.py --config.train.optimizer=adam
  python -m benchmarks.train_step --config=experiments/omniglot.py --config.model.features=32 \\
      --config.model.steps=8 --config.train.batch_size=32 --peer=benchmarks/torch_conv_draw.py

The last line is JSON. The images are random, of the data set's shape. --peer names a PyTorch script
that takes the same sizes (--image, --channels, --features, --latents, --kernel, --steps, --batch,
--likelihood, and the layout switch --channels_last) and prints a line of JSON. Both are then timed
in turns, in separate processes, and the ratio of the medians is printed. The machine should be
idle. Write flags as --flag=value.
"""

import functools
import json
import resource
import statistics
import subprocess
import sys
import time

from absl import flags
from ml_collections import config_flags

from benchmarks.work import image_shape, multiplications, pixels_scored
from conv_draw import command_line
from conv_draw.errors import UserError
from conv_draw.machine import startup
from conv_draw.workdir import config as config_lib

PROGRAM = 'benchmarks.train_step'

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, as for launch.py.')
REPEATS = flags.DEFINE_integer('repeats', 7, 'Timed steps; the median counts.', lower_bound=1)
PEER = flags.DEFINE(command_line.Path(), 'peer', None, 'The PyTorch script to compare with.')
PEER_PYTHON = flags.DEFINE_string('peer_python', sys.executable, 'An interpreter with torch.')
PEER_FLAGS = flags.DEFINE_string('peer_flags', '', 'Its other flags, as "--device cuda".')
PARTS = flags.DEFINE_bool(
    'parts', False, 'Also trace some steps, for the shares of convolutions, gates and noise.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Number of turns.', lower_bound=1)


def matmul_gflops(dtype):
  """Rate of dense matrix products on all local devices together, in GFLOP/s: an upper bound."""
  import jax

  # Several products a call hide an accelerator's launch.
  size, times = (2048, 1) if jax.default_backend() == 'cpu' else (8192, 20)
  a = jax.pmap(lambda key: jax.random.normal(key, (size, size), dtype) / size**0.5)(
      jax.random.split(jax.random.key(0), jax.local_device_count()))
  product = jax.pmap(
      lambda a: jax.lax.fori_loop(0, times, lambda _, b: (a @ b).astype(dtype), a))
  jax.block_until_ready(product(a))
  seconds = []
  for _ in range(7):
    began = time.perf_counter()
    jax.block_until_ready(product(a))
    seconds.append(time.perf_counter() - began)
  return 2e-9 * times * size**3 * jax.local_device_count() / min(seconds)


def measure(config, shape, repeats):
  """Compiles and times the training step. Returns the figures as a dict."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from benchmarks import parts
  from conv_draw.build import from_config
  from conv_draw.machine import devices
  from conv_draw.training import steps

  batch_size = config.train.batch_size
  devices.check_batch_size('train.batch_size', batch_size)
  model = from_config(config, shape, 256)
  optimizer = steps.create_optimizer(config, model)
  state = devices.replicate(steps.create_state(config, model, optimizer, shape))
  images = devices.split(
      np.random.default_rng(0).integers(0, 256, (batch_size, *shape)).astype(np.uint8))
  began = time.perf_counter()
  step = jax.pmap(
      functools.partial(steps.train_step, model=model, optimizer=optimizer, config=config),
      axis_name=devices.AXIS, donate_argnums=0).lower(state, images).compile()
  compile_seconds = time.perf_counter() - began
  temporary = step.memory_analysis().temp_size_in_bytes
  seconds = []
  for _ in range(repeats + 2):
    began = time.perf_counter()
    state, metrics = step(state, images)
    jax.block_until_ready(metrics)
    seconds.append(time.perf_counter() - began)
  step_seconds = statistics.median(seconds[2:])
  # The forward pass, and twice as much for the gradients of inputs and kernels.
  gflops = 6e-9 * multiplications(config, shape) * batch_size / step_seconds
  memory = jax.local_devices()[0].memory_stats() or {}
  m, local = config.model, {}
  dtype = m.compute_dtype
  if m.kind == 'local':
    scored = pixels_scored(config, shape)
    local = {'pixels_per_second': round(batch_size * scored / step_seconds),
             'local_dtype': config.local.dtype}
    dtype = dtype if m.steps else config.local.dtype
  peak = matmul_gflops(jnp.dtype(dtype))
  figures = local | {
      'images_per_second': round(batch_size / step_seconds, 3),
      'step_ms': round(1e3 * step_seconds, 2),
      'gflops': round(gflops, 1),
      'matmul_gflops': round(peak, 1),
      'fraction_of_matmul': round(gflops / peak, 3),
      'compile_seconds': round(compile_seconds, 2),
      'step_temporary_mib_per_device': round(temporary / 2**20, 1),
      'peak_memory_mib': round(
          memory['peak_bytes_in_use'] / 2**20 if 'peak_bytes_in_use' in memory
          else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1),
      'devices': jax.device_count(), 'platform': jax.default_backend(),
      'device': jax.devices()[0].device_kind, 'jax': jax.__version__,
      'dtype': dtype,
  }
  if PARTS.value:  # last, as the profiler takes memory
    def call():
      nonlocal state
      state, metrics = step(state, images)
      jax.block_until_ready((state, metrics))

    figures['parts'] = parts.measure(step, call)
  return figures


def run_peer(config, shape, *layout):
  """The line of JSON of a run of the peer with the same sizes.

  Raises:
    UserError: it failed.
  """
  m = config.model
  command = [
      PEER_PYTHON.value, PEER.value, '--image', shape[0], '--channels', shape[2],
      '--features', m.features, '--latents', m.latents, '--kernel', m.kernel, '--steps', m.steps,
      '--batch', config.train.batch_size, '--likelihood', m.likelihood, '--repeats', REPEATS.value,
      *PEER_FLAGS.value.split(), *layout]
  out = subprocess.run([str(c) for c in command], capture_output=True, text=True)
  if out.returncode:
    last = out.stderr.strip().splitlines()[-1:] or [f'status {out.returncode}']
    raise UserError(f'--peer={PEER.value} has failed ({last[0]}): mend it, or --peer_python')
  return json.loads(out.stdout.strip().splitlines()[-1])


def run_ours():
  """The line of JSON of a run of this program without a peer, in a separate process.

  Raises:
    UserError: it failed.
  """
  arguments = [a for a in sys.argv[1:] if not a.startswith(('--peer', '--rounds'))]
  out = subprocess.run(
      [sys.executable, '-m', PROGRAM, *arguments], stdout=subprocess.PIPE, text=True)
  if out.returncode:
    raise UserError(f'the same command without --peer has failed (status {out.returncode})')
  return json.loads(out.stdout.strip().splitlines()[-1])


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, '--peer'):
    command_line.check_given(argv, CONFIG)
    run(CONFIG.value)


def run(config):
  config_lib.check(config)
  m = config.model
  if m.kind == 'vae' or not m.stride or m.upper_features or (
      m.likelihood not in ('gaussian', 'bernoulli')):
    raise UserError(
        'the work is counted for convolutional DRAW with one layer and the '
        "paper's pixels only: choose such an experiment")
  shape = image_shape(config)
  if PEER.value is None:
    startup.one_device_per_core(config.train.batch_size)
    print(json.dumps(measure(config, shape, REPEATS.value)))
    return
  layouts = ((), ('--channels_last',))
  ours, peers = [], {layout: [] for layout in layouts}
  for _ in range(ROUNDS.value):
    ours.append(run_ours())
    for layout, rates in peers.items():
      rates.append(run_peer(config, shape, *layout))
  rate = lambda runs: statistics.median(run['images_per_second'] for run in runs)
  best = max(peers.values(), key=rate)
  middle = sorted(ours, key=lambda run: run['images_per_second'])[len(ours) // 2]
  print(json.dumps({
      **middle, 'images_per_second': rate(ours), 'rounds': [r['images_per_second'] for r in ours],
      'peer_images_per_second': rate(best),
      'peer_rounds': {' '.join(layout) or 'default': [r['images_per_second'] for r in runs]
                      for layout, runs in peers.items()},
      'peer_torch': best[0]['torch'], 'ratio': round(rate(ours) / rate(best), 3)}))


if __name__ == '__main__':
  startup.restart_with_huge_pages()
  command_line.start(PROGRAM, main)

"""Calculates the efficiency of training on many devices, and checks the calculation on a CPU.

    python -m benchmarks.scaling --config=experiments/cifar10.py --gflops=200000
    python -m benchmarks.scaling --config=experiments/cifar10.py --images_per_second=R  # measured
    python -m benchmarks.scaling --check

The model: a ring all-reduce of all gradients, in float32, once a step. It does not overlap with
computing, as the kernels' gradients are complete only at the end of the backward loop over T.

    t_reduce = 2 (N - 1) / N * bytes / bandwidth + 2 (N - 1) * latency
    efficiency = t_compute / (t_compute + t_reduce)

The program prints a Markdown table: for each number of devices the efficiency, and the batch per
device below which communication takes longer than computing. --check compiles the training step for
1, 2, 4 and 8 simulated devices, counts the bytes in its all-reduces, and compares the parameters
after three steps.
"""

import functools
import json
import math
import re

from absl import flags
from ml_collections import config_flags

from benchmarks.work import image_shape, multiplications
from conv_draw import command_line
from conv_draw.errors import UserError
from conv_draw.workdir import config as config_lib

PROGRAM = 'benchmarks.scaling'

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, as for launch.py.')
GFLOPS = flags.DEFINE_float('gflops', None, 'Assumed effective rate of a device.')
RATE = flags.DEFINE_float('images_per_second', None, 'Measured rate of one device.')
BATCH = flags.DEFINE_integer('batch', 64, 'Images per device.', lower_bound=1)
DEVICES = flags.DEFINE_list('devices', ['8', '64', '512'], 'Numbers of devices.')
BANDWIDTHS = flags.DEFINE_list(
    'bandwidths', ['450', '50', '50'], 'GB/s of each device, for each number of devices.')
LATENCY = flags.DEFINE_float('latency_us', 3.0, 'Microseconds for a message.')
CHECK = flags.DEFINE_bool('check', False, 'Compile and compare on simulated devices.')


def parameters(config, shape):
  """Number of parameters of the model."""
  import jax
  import numpy as np

  from conv_draw.build import from_config
  key = jax.random.key(0)
  params = jax.eval_shape(
      from_config(config, shape, 256).init, key, key, np.zeros((1, *shape), np.uint8))
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def all_reduce_seconds(size, count, gigabytes_per_second, latency):
  """Time of an all-reduce of `size` bytes in a ring of `count` devices."""
  hops = 2 * (count - 1)
  return hops / count * size / (1e9 * gigabytes_per_second) + hops * latency


def predict(config, shape):
  """Prints the table of an experiment."""
  try:
    clusters = list(zip(map(int, DEVICES.value), map(float, BANDWIDTHS.value), strict=True))
  except ValueError:
    raise UserError('--devices and --bandwidths must be numbers, as many of either') from None
  size = 4 * parameters(config, shape)
  gflop = 6e-9 * multiplications(config, shape)  # forward and backward
  image = 1 / RATE.value if RATE.value else gflop / GFLOPS.value
  print(f'{config.data.name}: F {config.model.features}, T {config.model.steps}; '
        f'{size / 1e6:.1f} MB all-reduced a step; {gflop:,.1f} GFLOP an image, '
        f'{1e3 * image:.3g} ms; {BATCH.value} images per device\n')
  print('| devices | GB/s | compute, ms | all-reduce, ms | efficiency | images/s | all-reduce '
        'dominates below a batch per device of |\n|---|---|---|---|---|---|---|')
  for count, bandwidth in clusters:
    compute = BATCH.value * image
    reduce = all_reduce_seconds(size, count, bandwidth, 1e-6 * LATENCY.value)
    efficiency = compute / (compute + reduce)
    print(f'| {count} | {bandwidth:g} | {1e3 * compute:.3g} | {1e3 * reduce:.3g} | '
          f'{100 * efficiency:.1f} % | {count * BATCH.value / (compute + reduce):,.0f} | '
          f'{math.ceil(reduce / image)} |')


def compile_and_run(config, shape, count, steps_done=3):
  """(bytes in a training step's all-reduces, parameters after `steps_done`) on `count` devices."""
  import jax
  import numpy as np

  from conv_draw.build import from_config
  from conv_draw.machine.devices import AXIS
  from conv_draw.training import steps
  model = from_config(config, shape, 256)
  optimizer = steps.create_optimizer(config, model)
  state = steps.create_state(config, model, optimizer, shape)
  state = jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), state)
  images = np.random.default_rng(0).integers(
      0, 256, (count, config.train.batch_size // count, *shape)).astype(np.uint8)
  step = jax.pmap(
      functools.partial(steps.train_step, model=model, optimizer=optimizer, config=config),
      axis_name=AXIS, devices=jax.local_devices()[:count]).lower(state, images).compile()
  for _ in range(steps_done):
    state, _ = step(state, images)
  return all_reduced_bytes(step.as_text()), jax.tree.map(lambda x: np.asarray(x[0]), state.params)


def all_reduced_bytes(hlo):
  """Bytes in the all-reduces of a compiled program's text, which are of float32."""
  total = 0
  for kinds in re.findall(r' = (.*?) all-reduce(?:-start)?\(', hlo):
    assert set(re.findall(r'([a-z]+\d+)\[', kinds)) <= {'f32'}, kinds
    shapes = re.findall(r'f32\[([\d,]*)\]', kinds)
    total += 4 * sum(math.prod(int(n) for n in shape.split(',') if n) for shape in shapes)
  return total


def check():
  """Prints a row for each number of simulated devices."""
  import jax
  import numpy as np

  from experiments import digits
  config = digits.with_adam(digits.get_config())
  shape = image_shape(config)
  config.train.batch_size = 32
  config.model.steps, config.model.features = 3, 8
  size, alone = 4 * parameters(config, shape), None
  for count in (1, 2, 4, 8):
    reduced, params = compile_and_run(config, shape, count)
    alone = params if alone is None else alone
    apart = max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), params, alone)))
    print(json.dumps({
        'devices': count, 'all_reduced_bytes': reduced, 'bytes_of_parameters': size,
        'parameters_differ_by': float(apart)}))


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, '--config'):
    if CHECK.value:
      import jax
      jax.config.update('jax_num_cpu_devices', 8)
      return check()
    command_line.check_given(argv, CONFIG)
    config = CONFIG.value
    config_lib.check(config)
    if not (GFLOPS.value or RATE.value):
      raise UserError('the speed of a device is missing: give --gflops or --images_per_second')
    return predict(config, image_shape(config))


if __name__ == '__main__':
  command_line.start(PROGRAM, main)

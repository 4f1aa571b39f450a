"""Benchmarks: they run, and count correctly. Nothing is timed."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import apart, parts, scaling, work
from conv_draw import GaussianPixels
from conv_draw.codec import quantiser
from conv_draw.model import layers, objective
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.workdir.config import set_kind
from tests.program import QUICK, ROOT
from tests.tiny import local

PEER = '''
import json, sys
fast = '--channels_last' in sys.argv
assert sys.argv[sys.argv.index('--features') + 1] == '4', sys.argv
print('warming up')
print(json.dumps({'images_per_second': 50.0 if fast else 40.0, 'torch': 'pretended'}))
'''


def test_benchmark_prints_one_line_of_json_with_the_ratio(tmp_path):
  peer = tmp_path / 'peer.py'
  peer.write_text(PEER)
  environment = os.environ | {'XLA_FLAGS': QUICK}
  out = subprocess.run(
      [sys.executable, '-m', 'benchmarks.train_step', '--config=experiments/digits.py',
       '--config.model.features=4', '--config.model.steps=2', '--config.train.batch_size=4',
       '--config.train.optimizer=adam', '--repeats=1', '--rounds=1', '--parts', f'--peer={peer}'],
      cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
  figures = json.loads(out.strip().splitlines()[-1])
  assert figures['peer_images_per_second'] == 50.0
  assert figures['ratio'] == round(figures['images_per_second'] / 50.0, 3)
  for key in ('gflops', 'fraction_of_matmul', 'compile_seconds', 'peak_memory_mib'):
    assert figures[key] > 0
  found = figures['parts']
  assert 0 < found.pop('busy') and sum(found.values()) == pytest.approx(1, abs=0.01)
  assert found['products'] > 0.02 and found['noise'] > 0 and 'unknown' not in found


def test_multiplications_are_those_of_the_compiled_plain_convolutions(config, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')  # the plain path
  config.model.update(steps=2, features=8, latents=3)
  model = ConvDraw(channels=1, pixels=GaussianPixels(17), iterations=2, features=8, latents=3)
  shape = (8, 8, 1)
  key = jax.random.key(0)
  images = np.zeros((1, *shape), np.uint8)
  params = jax.eval_shape(model.init, key, key, images)
  jaxpr = jax.make_jaxpr(lambda p: model.apply(p, key, images).canvas)(params)

  def count(jaxpr, times=1):
    total = 0
    for equation in jaxpr.eqns:
      if equation.primitive.name == 'conv_general_dilated':
        kernel = equation.invars[1].aval.shape
        out = equation.outvars[0].aval.shape
        total += times * out[1] * out[2] * int(np.prod(kernel))
      for value in equation.params.values():
        if hasattr(value, 'jaxpr'):
          total += count(value.jaxpr, times * equation.params.get('length', 1))
    return total

  # A strided kernel of 5x5 is computed as 6x6 (3x3 blocks of 2x2), or as 5x5 blocks if it shares a
  # convolution with a 5x5 kernel. `multiplications` counts 5x5.
  assert work.multiplications(config, shape) < count(jaxpr.jaxpr)
  assert count(jaxpr.jaxpr) < 1.5 * work.multiplications(config, shape)


def test_work_of_local_pixels_is_that_of_their_canvas_and_of_the_pixels_scored(config):
  local(config, layers=2, pixels=10)
  shape = (8, 8, 1)
  config.model.steps = 0
  one = 4 * 1 + 3 + 2  # four neighbours, the edges, reference and spread
  head = lambda inputs: 10 * (inputs * 4 + 2 * 4 * 4 + 4 * 15)
  assert work.multiplications(config, shape) == head(one)
  config.model.steps = 2
  both = work.multiplications(config, shape)
  set_kind(config, 'draw')
  assert both == work.multiplications(config, shape) + head(one + 25 + 2)


def test_accelerators_get_bfloat16_convolutions_and_float32_sums(images, monkeypatch):
  """The program lowered for CUDA: its convolutions read bfloat16, gates and nats are float32."""
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert isinstance(layers.grid((4, 4), 5, jnp.float32), layers.PlainGrid)
  model = ConvDraw(
      channels=2, pixels=GaussianPixels(17), iterations=3, features=4, latents=2,
      compute_dtype=jnp.bfloat16)
  key = jax.random.key(0)
  params = jax.eval_shape(model.init, key, key, images)

  def loss(params):
    return objective.loss(objective.elbo(model, images, model.apply(params, key, images)), 1.0)

  text = jax.jit(jax.grad(loss)).trace(params).lower(lowering_platforms=('cuda',)).as_text()
  convolutions = [line for line in text.splitlines() if 'stablehlo.convolution' in line]
  assert len(convolutions) >= 15  # 5 in a step, their two gradients
  assert all('bf16' in line.split(' : ')[-1].split('->')[0] for line in convolutions)
  assert not any('f32' in line.split(' : ')[-1].split('->')[0] for line in convolutions)
  exponentials = [line for line in text.splitlines() if 'stablehlo.exponential' in line]
  assert exponentials and all('f32' in line for line in exponentials)
  assert 'callback' not in text and 'stablehlo.while' in text


def test_parts_of_a_program_are_known_by_what_is_fused():
  def step(a, key):
    a = jnp.tanh(a @ a)
    return (a + jax.random.uniform(key, a.shape)).T

  program = jax.jit(step).lower(jnp.ones((64, 64)), jax.random.key(0)).compile().as_text()
  assert {'products', 'gates_and_costs', 'noise'} <= set(parts.kinds(program).values())


def test_files_of_two_environments_are_compared(tmp_path):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
  mean, sigma = rng.normal(size=10), np.full(10, 0.5)
  for number, ends in {'0': ('here', 'there'), '1': ('here',)}.items():  # the other one has failed
    (tmp_path / number).write_bytes(b'')
    for who in ends:
      there = who == 'there'
      other_mean = mean + there * (np.arange(10) == 3) * 2 * quantiser.MEAN_ERROR * (
          sigma + abs(mean))
      other_sigma = sigma * 2 ** (there * quantiser.LOG2_SCALE_ERROR / 2)
      np.savez(tmp_path / f'{number}.{who}.npz', image=image ^ there,
               priors=np.float64([other_mean, other_sigma]))
  found = apart.differences(str(tmp_path), 'here', 'there')
  assert found == {
      'count': 2, 'failed': 1, 'values': 60, 'values_off': 60, 'off_at_most': 1, 'priors': 10,
      'priors_beyond': 1, 'means_off_at_most': 2.0, 'scales_off_at_most': 0.5}


@pytest.mark.parametrize('count', [1, 4])
def test_gradients_and_metrics_are_all_that_is_all_reduced(config, count):
  config.train.batch_size = 8
  size = 4 * scaling.parameters(config, (8, 8, 1))
  reduced, params = scaling.compile_and_run(config, (8, 8, 1), count, steps_done=0)
  assert sum(x.size for x in jax.tree.leaves(params)) * 4 == size
  assert size < reduced <= size + 4 * 4


def test_time_of_an_all_reduce():
  seconds = lambda count, latency=0.0: scaling.all_reduce_seconds(8e9, count, 1.0, latency)
  assert seconds(1) == 0
  assert seconds(2) == 8  # half of it each way
  assert seconds(8) == pytest.approx(14)
  assert seconds(2, latency=0.5) == 9

"""Results on a GPU or TPU equal those on the CPU of the same machine; skipped by default. To run:

    CONV_DRAW_ACCELERATOR=gpu python -m pytest -n 0 tests/test_accelerator.py

(or tpu; `cpu` runs the accelerators' convolutions on the CPU).
"""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from conv_draw import BernoulliPixels, GaussianPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.local_pixels import LocalPixels
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.model import objective
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.layers import Layer
from conv_draw.model.vae import Vae
from conv_draw.progressive import objective as multi_rate
from conv_draw.progressive.model import Progressive
from tests import test_experiments as experiments
from tests.autoregressive import test_integer_pixels as integer_pixels
from tests.codec import test_exact_everywhere as whole_numbers
from tests.program import ACCELERATOR, ROOT, launch

pytestmark = pytest.mark.accelerator
BY_OTHER_PROCESSES = pytest.mark.skipif(
    ACCELERATOR == 'tpu', reason='a TPU is held by one process: run launch.py by itself')
PLATFORM = {'gpu': 'cuda'}.get(ACCELERATOR, ACCELERATOR)  # of JAX_PLATFORMS

SIZE = (13, 18)
SHARED = dict(channels=3, pixels=GaussianPixels(256), features=32, latents=4, image_size=SIZE)
DRAW = ConvDraw(**SHARED, iterations=4)
MODELS = {
    'DRAW': DRAW,
    'binary pixels': DRAW.clone(pixels=BernoulliPixels(256)),
    'mixtures': DRAW.clone(pixels=LogisticMixturePixels(256, 5)),
    'fully connected': ConvDraw(**SHARED, iterations=3, stride=0),
    'two layers': ConvDraw(**SHARED, iterations=3, upper=(Layer(24, 4, 2),)),
    'rounded': ConvDraw(**SHARED, iterations=3, posterior='rounded'),
    'progressive': Progressive(
        3, iterations=6, features=32, latents=4, stride=4, image_kernel=4, lmbda=3.0,
        filter_features=16),
    'VAE': Vae(**SHARED, stride=0, upper=(Layer(24, 4, 0),)),
    'local pixels': LocalDraw(DRAW, LocalPixels(
        LogisticMixturePixels(256, 5), 3, 3, 32, 2,
        canvas_channels=DRAW.pixels.canvas_channels(3))),
}


@pytest.fixture(autouse=True)
def convolutions_of_accelerators(monkeypatch):
  assert jax.default_backend() == ACCELERATOR, f'CONV_DRAW_ACCELERATOR={ACCELERATOR}'
  if ACCELERATOR == 'cpu':
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')


@pytest.fixture(scope='module')
def images():
  walk = np.random.default_rng(0).normal(0, 8, (8, *SIZE, 3))
  return np.clip(128 + walk.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


@functools.cache
def params_of(model):
  key = jax.random.key(1)
  with jax.default_device(jax.devices('cpu')[0]):
    params = jax.jit(model.init)(key, key, np.zeros((1, *SIZE, 3), np.uint8))
  # Noise, since some biases and kernels are 0.
  noise = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: np.asarray(x) + 0.02 * noise.normal(size=x.shape).astype(np.float32), params)


def on(platform, function, *arguments):
  """The result of a function of arrays on a platform, as host arrays."""
  device = jax.devices(platform)[0]
  with jax.default_device(device):
    return jax.tree.map(np.asarray, jax.jit(function)(*jax.device_put(arguments, device)))


def loss_and_gradients(model, params, images):
  def loss(params):
    inference = model.apply(params, jax.random.key(2), images)
    if model.embedded:
      return multi_rate.multi_rate(
          inference, multi_rate.geometric_betas(1e-3, 0.5, model.iterations)).mean()
    return objective.loss(objective.elbo(model, images, inference), 1.0)

  return jax.value_and_grad(loss)(params)


def vector(tree):
  return np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)])


def off(tree, reference):
  """The relative distance of a tree from a reference."""
  return np.linalg.norm(vector(tree) - vector(reference)) / np.linalg.norm(vector(reference))


@pytest.mark.parametrize('name', MODELS)
def test_loss_and_gradients_equal_the_cpus(name, images):
  model, params = MODELS[name], params_of(MODELS[name])
  function = functools.partial(loss_and_gradients, model)
  with jax.default_matmul_precision('highest'):
    loss, gradients = on(ACCELERATOR, function, params, images)
    expected, reference = on('cpu', function, params, images)
  assert loss == pytest.approx(expected, rel=1e-5)
  # A few latents near the edge of a bin are rounded differently.
  rounds = getattr(model, 'posterior', None) == 'rounded'
  assert off(gradients, reference) < (0.05 if rounds else 1e-3)


def test_default_precision_and_bfloat16_are_close(images):
  expected, reference = on('cpu', functools.partial(loss_and_gradients, DRAW), params_of(DRAW),
                           images)
  for model, most in (DRAW, 0.01), (DRAW.clone(compute_dtype=jnp.bfloat16), 0.1):
    loss, gradients = on(
        ACCELERATOR, functools.partial(loss_and_gradients, model), params_of(DRAW), images)
    assert loss == pytest.approx(expected, rel=most / 10)
    assert off(gradients, reference) < most


@pytest.mark.parametrize('name', ['digits', 'photos_lossy'])
def test_loss_and_gradients_are_the_same_on_one_device_and_on_two(name):
  if jax.local_device_count() < 2:
    pytest.skip('there is one device')
  with jax.default_matmul_precision('highest'):
    _, (loss, gradients), (other, others) = experiments.gradients_of(name)
  assert other == pytest.approx(loss, rel=1e-5)
  assert off(others, gradients) < 1e-3


@pytest.mark.parametrize('name', ['DRAW', 'fully connected', 'two layers', 'VAE'])
def test_samples_equal_the_cpus(name):
  model = MODELS[name]
  draw = lambda params: model.pixels.mean(
      model.apply(params, jax.random.key(3), 8, SIZE, method='sample'))
  with jax.default_matmul_precision('highest'):
    here, there = (on(platform, draw, params_of(model)) for platform in (ACCELERATOR, 'cpu'))
  assert here.shape == (8, *SIZE, 3) and here.std() > 0
  np.testing.assert_allclose(here, there, atol=1e-3)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('head', [integer_pixels.COLOUR, integer_pixels.GREY],
                         ids=['colour', 'grey'])
def test_the_integer_network_is_the_same_to_the_last_bit(head, dtype):
  score = lambda params, images: head.clone(compute_dtype=jnp.dtype(dtype)).apply(
      params, images, method='cost')
  numbers = lambda params, images: head.clone(compute_dtype=jnp.dtype(dtype)).apply(
      params, images, *integer_pixels.everywhere(), method='numbers_at')[0]
  arguments = integer_pixels.params_of(head), integer_pixels.smooth(head)
  np.testing.assert_array_equal(
      on(ACCELERATOR, numbers, *arguments), on('cpu', numbers, *arguments))
  # Costs are logarithms of the tables' entries.
  np.testing.assert_allclose(
      on(ACCELERATOR, score, *arguments), on('cpu', score, *arguments), rtol=1e-5)


def test_lossless_files_of_the_integer_network_equal_the_cpus(tmp_path):
  (tmp_path / 'file').write_bytes(whole_numbers.file().data)
  np.savez(tmp_path / 'params.npz', **integer_pixels.params_of(integer_pixels.COLOUR)['params'])
  found = subprocess.run(
      [sys.executable, '-m', 'tests.codec.test_exact_everywhere', tmp_path], cwd=ROOT,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'}, capture_output=True, text=True)
  assert found.returncode == 0 and found.stdout.split() == ['the', 'same'], found.stderr


@BY_OTHER_PROCESSES
@pytest.mark.parametrize('model', ['cifar10_codec', 'cifar10_lossy', 'photos_lossless'])
def test_files_of_packaged_models_pass_between_accelerator_and_cpu(model, images, tmp_path):
  for number, image in enumerate(images[:3]):
    Image.fromarray(np.tile(image, (3, 2, 1))[:32, :32]).save(tmp_path / f'{number}.png')
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.elsewhere', f'--images={tmp_path}',
       f'--workdir=conv_draw/pretrained/{model}', '--here=JAX_PLATFORMS=cpu',
       f'--there=JAX_PLATFORMS={PLATFORM}'],
      cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  found = [json.loads(line) for line in done.stdout.splitlines()]
  assert {f['files'] for f in found} <= {'lossy', 'lossless'} and len(found) >= 2
  for direction in found:
    assert direction['count'] == 3 and not direction['failed'], direction
    assert direction['off_at_most'] <= (1 if direction['files'] == 'lossy' else 0), direction


@BY_OTHER_PROCESSES
def test_digits_learn_what_they_do_on_a_cpu(tmp_path):
  """The README's first command: 2.460 bits/dim on CPUs, with a standard error of 0.018."""
  status, out, error = launch(
      '--config=experiments/digits.py', f'--workdir={tmp_path / "digits"}',
      JAX_PLATFORMS=PLATFORM)
  assert status == 0, error
  with open(tmp_path / 'digits' / 'metrics.jsonl') as f:
    records = [json.loads(line) for line in f]
  final = [r for r in records if r.get('split') == 'test'][-1]
  assert abs(final['bits_per_dim'] - 2.460) < 0.025, final

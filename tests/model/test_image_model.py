"""The properties of inference, reconstruction and sampling, of `ConvDraw` and `Vae`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import GaussianPixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.layers import Layer
from conv_draw.model.noise import image_keys
from conv_draw.model.vae import Vae

SIZE = (7, 9)  # of `images`: both sides odd, and again at the resolution of the second layer
TINY = functools.partial(
    Vae, channels=2, pixels=GaussianPixels(17), features=6, latents=2, kernel=3)
MODELS = {
    'draw': ConvDraw(channels=2, pixels=GaussianPixels(17), iterations=3, features=4, latents=2,
                     winograd=False),
    'dense': TINY(stride=0, upper=(Layer(5, 3, 0),), image_size=SIZE),
    'conv': TINY(stride=2, upper=(Layer(5, 3, 2),)),
    'mixed': TINY(stride=2, upper=(Layer(5, 3, 0),), image_size=SIZE)}


@functools.cache
def initial_params(name):
  key = jax.random.key(1)
  return jax.jit(MODELS[name].init)(key, key, np.zeros((1, *SIZE, 2), np.uint8))


@functools.cache
def random_params(name):
  """Random parameters, with biases and last layers large enough to matter."""
  noise = np.random.default_rng(0)
  # Large biases put q well away from p; large kernels would make log q - log p heavy-tailed.
  return jax.tree.map(
      lambda x: x + (0.3 if x.ndim == 1 else 0.02) * noise.normal(size=x.shape).astype(np.float32),
      initial_params(name))


@functools.cache
def compiled(name, method='__call__'):
  return jax.jit(functools.partial(MODELS[name].apply, method=method))


@pytest.fixture(scope='module', params=MODELS)
def name(request):
  return request.param


@pytest.fixture
def infer(name):
  return functools.partial(compiled(name), random_params(name))


@pytest.fixture
def reconstruct(name):
  return functools.partial(compiled(name, 'reconstruct'), random_params(name))


same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def test_storing_all_groups_is_inference_and_none_is_sampling(name, images, infer, reconstruct):
  key, last = jax.random.key(3), MODELS[name].iterations
  everything, nothing = reconstruct(key, images, last), reconstruct(key, images, 0)
  same(everything, infer(key, images).canvas)
  sample = jax.jit(lambda key: MODELS[name].apply(
      random_params(name), key, 3, SIZE, method='sample'))
  same(nothing, sample(key))
  each = reconstruct(key, images, np.array([0, last, 0]))
  same(each[1], everything[1])
  same(each[2], nothing[2])
  assert abs(everything - nothing).max() > 1e-2


def test_generated_groups_can_have_keys_of_their_own(name, images, reconstruct):
  last = MODELS[name].iterations
  stored, own = jax.random.key(3), jax.random.key(4)
  draw = lambda key, groups, other=None: reconstruct(key, images, groups, generation_key=other)
  each = draw(stored, np.array([0, last, 0]), own)
  expected = [draw(own, 0)[0], draw(stored, last)[1], draw(own, 0)[2]]
  same(each, expected)
  assert abs(each - draw(stored, np.array([0, last, 0])))[0].max() > 1e-2


def test_temperature_zero_does_not_depend_on_the_key(name, images, infer, reconstruct):
  one, two = jax.random.key(1), jax.random.key(2)
  mean = lambda key: infer(key, images, 0.0).canvas
  np.testing.assert_array_equal(mean(one), mean(two))
  assert abs(infer(one, images).canvas - mean(one)).max() > 1e-3
  last = MODELS[name].iterations
  for groups, frozen in ((0, (0.0, 1.0)), (last, (1.0, 0.0))):
    draw = lambda key, temperatures: reconstruct(key, images, groups, *temperatures)  # noqa: B023
    np.testing.assert_array_equal(draw(one, frozen), draw(two, frozen))
    assert abs(draw(one, frozen[::-1]) - draw(two, frozen[::-1])).max() > 1e-3


def test_log_ratio_averages_to_the_kl(images, infer):
  inference = infer(jax.random.key(0), images[:1].repeat(4000, 0))
  difference = inference.log_ratio_nats - inference.kl_nats.sum((0, 1))
  error = difference.std() / np.sqrt(len(difference))
  assert abs(difference.mean()) < 4 * error
  assert (inference.kl_nats.mean(2) > 8 * error).any()


def test_an_image_does_not_depend_on_the_batch_around_it(images, infer):
  keys, order = image_keys(jax.random.key(0), 3), np.array([1, 2, 2])
  together, mixed = infer(keys, images), infer(keys[order], images[order])
  same(together.canvas[1], mixed.canvas[0])
  same(together.kl_nats[..., 1], mixed.kl_nats[..., 0])
  same(infer(jax.random.key(0), images).canvas, together.canvas)  # one key is a key per image


@pytest.mark.parametrize('name', ['draw', 'mixed'])
def test_bfloat16_computes_close_by_and_keeps_float32(name, images):
  half, key = MODELS[name].clone(compute_dtype=jnp.bfloat16), jax.random.key(0)
  shapes = jax.eval_shape(half.init, key, key, images)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))
  exact = compiled(name)(random_params(name), key, images)
  rough = jax.jit(half.apply)(random_params(name), key, images)
  assert rough.canvas.dtype == rough.kl_nats.dtype == jnp.float32
  np.testing.assert_allclose(rough.canvas, exact.canvas, atol=0.1)
  assert abs(rough.canvas - exact.canvas).max() > 0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels
from conv_draw.errors import UserError
from conv_draw.model import objective
from conv_draw.model.latents import DiagonalGaussian, kl_divergence
from conv_draw.model.layers import Layer
from conv_draw.model.noise import image_keys
from conv_draw.model.vae import Vae

SIZE = (7, 9)  # of `images`: both sides odd, and again at the resolution of the second layer
TINY = functools.partial(
    Vae, channels=2, pixels=GaussianPixels(17), features=6, latents=2, kernel=3)
DENSE = TINY(stride=0, upper=(Layer(5, 3, 0),), image_size=SIZE)
CONV = TINY(stride=2, upper=(Layer(5, 3, 2),))
MIXED = TINY(stride=2, upper=(Layer(5, 3, 0),), image_size=SIZE)


@functools.cache
def initial_params(model):
  key = jax.random.key(1)
  return jax.jit(model.init)(key, key, np.zeros((1, *SIZE, 2), np.uint8))


@functools.cache
def random_params(model):
  """All of them: biases and the small last layers count in what is compared."""
  noise = np.random.default_rng(0)
  # Large biases put q well away from p; large kernels would make log q - log p heavy-tailed.
  return jax.tree.map(
      lambda x: x + (0.3 if x.ndim == 1 else 0.02) * noise.normal(size=x.shape).astype(np.float32),
      initial_params(model))


@functools.cache
def inference(model):
  return jax.jit(model.apply)


@pytest.fixture(scope='module', params=[DENSE, CONV, MIXED], ids=['dense', 'conv', 'mixed'])
def model(request):
  return request.param


@pytest.fixture
def params(model):
  return random_params(model)


@pytest.fixture
def infer(model):
  return inference(model)


@pytest.fixture(scope='module')
def reconstruct(model):
  return jax.jit(functools.partial(model.apply, method='reconstruct'))


def dense_reference(p, keys, images):
  """Two fully connected layers in plain JAX -> (canvas, [KL of layer 0, KL of layer 1])."""
  linear = lambda name, x: x @ p[name]['kernel'] + p[name].get('bias', 0)
  hidden = lambda name, x: jnp.tanh(linear(f'{name}_1', jnp.tanh(linear(f'{name}_0', x))))
  noise = lambda i, size: jnp.stack([
      jax.random.normal(jax.random.fold_in(key, i and 1 + i), (1, 1, size))[0, 0] for key in keys])
  x = 2 * images.reshape(len(images), -1) / 16 - 1
  e_0 = hidden('encoder_0', x)
  e_1 = hidden('encoder_1', e_0)
  q_1 = DiagonalGaussian.split(linear('posterior_1', e_1))
  d = hidden('decoder_1', q_1.at(noise(1, 3)))
  p_0 = DiagonalGaussian.split(linear('prior_0', d))
  q_0 = DiagonalGaussian.split(linear('posterior_0', jnp.concatenate([e_0, d], -1)))
  canvas = linear('write_0', hidden('decoder_0', q_0.at(noise(0, 2)))).reshape(-1, *SIZE, 4)
  standard = DiagonalGaussian(jnp.zeros((3, 3)), jnp.zeros((3, 3)))
  kl_nats = [kl_divergence(q_0, p_0).sum(-1), kl_divergence(q_1, standard).sum(-1)]
  return canvas + p['initial_canvas'], kl_nats


def test_fully_connected_layers_are_plain_matrix_products(images):
  params = random_params(DENSE)
  keys = image_keys(jax.random.key(2), 3)
  inferred = inference(DENSE)(params, keys, images)
  canvas, kl_nats = jax.jit(dense_reference)(params['params'], keys, images)
  np.testing.assert_allclose(inferred.canvas, canvas, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(inferred.kl_nats[0], jnp.stack(kl_nats), rtol=1e-4)


def test_sizes_are_those_of_burda_et_al():
  model = Vae(
      channels=1, pixels=BernoulliPixels(), features=200, latents=100, stride=0,
      upper=(Layer(100, 50, 0),), image_size=(28, 28))
  image = np.zeros((1, 28, 28, 1), np.uint8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jax.random.key(0), image)['params']
  assert shapes.pop('initial_canvas').shape == (28, 28, 1)
  assert {name: weights['kernel'].shape for name, weights in shapes.items()} == {
      'encoder_0_0': (784, 200), 'encoder_0_1': (200, 200),
      'encoder_1_0': (200, 100), 'encoder_1_1': (100, 100),
      'posterior_1': (100, 2 * 50), 'decoder_1_0': (50, 100), 'decoder_1_1': (100, 100),
      'prior_0': (100, 2 * 100), 'posterior_0': (200 + 100, 2 * 100),
      'decoder_0_0': (100, 200), 'decoder_0_1': (200, 200), 'write_0': (200, 784)}


def test_shapes(model, params, images, infer):
  inferred = infer(params, jax.random.key(0), images)
  assert inferred.canvas.shape == (3, *SIZE, 4)
  assert inferred.kl_nats.shape == (model.iterations, 2, 3)
  assert inferred.log_ratio_nats.shape == (3,)
  terms = objective.elbo(model, images, inferred)
  assert terms.nats.shape == (3,)
  assert jnp.isfinite(terms.nats).all()


def test_training_starts_close_to_the_prior_and_the_initial_canvas(model, images, infer):
  params = initial_params(model)
  inferred = infer(params, jax.random.key(0), images)
  latents = {DENSE: (2, 3), CONV: (4 * 5 * 2, 2 * 3 * 3), MIXED: (4 * 5 * 2, 3)}[model]
  assert (inferred.kl_nats[0] < 0.1 * np.array(latents)[:, None]).all()
  canvas = params['params']['initial_canvas']
  assert abs(inferred.canvas - canvas).max() < 0.5
  np.testing.assert_allclose(canvas.reshape(-1, 4)[-1], model.pixels.initial_canvas(2))


def test_gradient_reaches_every_parameter(model, params, images):
  def loss(params):
    terms = objective.elbo(model, images, model.apply(params, jax.random.key(0), images))
    return objective.loss(terms, 1.0)

  gradient = jax.jit(jax.grad(loss))(params)
  assert not [
      jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradient)
      if not (jnp.isfinite(g).all() and abs(g).max() > 1e-4)]


def test_log_ratio_averages_to_the_kl(params, images, infer):
  image = images[:1].repeat(20_000, 0)
  inferred = infer(params, jax.random.key(0), image)
  difference = inferred.log_ratio_nats - inferred.kl_nats.sum((0, 1))
  error = difference.std() / np.sqrt(len(image))
  assert abs(difference.mean()) < 4 * error
  assert (inferred.kl_nats.mean((0, 2)) > 8 * error).all()  # a layer left out would show


def test_kl_is_given_the_latents_above(params, images, infer):
  kl = lambda images, temperature: infer(
      params, jax.random.key(0), images, temperature).kl_nats[0]
  # Above the top there is nothing: its own draw must not change its KL, but does change the next.
  mean, drawn = kl(images, 0.0), kl(images, 1.0)
  np.testing.assert_allclose(mean[1], drawn[1], rtol=1e-6)
  assert (abs(mean[0] - drawn[0]) > 1e-4).all()
  changed = images.copy()
  changed[0] = 16 - changed[0]
  difference = abs(kl(changed, 1.0) - drawn)
  assert (difference[:, 0] > 1e-4).all()
  np.testing.assert_array_equal(difference[:, 1:], 0)


def test_storing_the_latents_is_inference_and_not_storing_them_is_sampling(
    model, params, images, infer, reconstruct):
  key = jax.random.key(3)
  everything = reconstruct(params, key, images, 1)
  np.testing.assert_allclose(everything, infer(params, key, images).canvas, rtol=1e-5, atol=1e-5)
  nothing = reconstruct(params, key, images, 0)
  sample = jax.jit(lambda params, key: model.apply(params, key, 3, SIZE, method='sample'))
  np.testing.assert_allclose(nothing, sample(params, key), rtol=1e-5, atol=1e-5)
  each = reconstruct(params, key, images, jnp.array([0, 1, 0]))
  np.testing.assert_allclose(each[1], everything[1], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(each[2], nothing[2], rtol=1e-5, atol=1e-5)
  assert abs(everything - nothing).max() > 1e-2


def test_generated_latents_can_have_a_key_of_their_own(images):
  params, stored, own = random_params(MIXED), jax.random.key(3), jax.random.key(4)
  reconstruct = jax.jit(lambda key, groups, generation_key: MIXED.apply(
      params, key, images, groups, generation_key=generation_key, method='reconstruct'))
  each = reconstruct(stored, np.array([0, 1, 0]), own)
  for b, (key, groups) in enumerate([(own, 0), (stored, 1), (own, 0)]):
    expected = reconstruct(key, np.full(3, groups), key)
    np.testing.assert_allclose(each[b], expected[b], rtol=1e-5, atol=1e-5)
  assert abs(each - reconstruct(stored, np.array([0, 1, 0]), stored))[0].max() > 1e-2


def test_temperature_zero_does_not_depend_on_the_key(params, images, infer, reconstruct):
  one, two = jax.random.key(1), jax.random.key(2)
  mean = lambda key: infer(params, key, images, 0.0).canvas
  np.testing.assert_array_equal(mean(one), mean(two))
  assert abs(infer(params, one, images).canvas - mean(one)).max() > 1e-3
  for groups in (0, 1):
    other = lambda key, temperatures: reconstruct(
        params, key, images, groups, *temperatures)  # noqa: B023
    frozen = (1.0, 0.0) if groups else (0.0, 1.0)
    np.testing.assert_array_equal(other(one, frozen), other(two, frozen))
    assert abs(other(one, frozen[::-1]) - other(two, frozen[::-1])).max() > 1e-3


def test_an_image_does_not_depend_on_the_batch_around_it(params, images, infer):
  keys = image_keys(jax.random.key(0), 3)
  together = infer(params, keys, images)
  order = np.array([1, 2, 2])
  mixed = infer(params, keys[order], images[order])
  np.testing.assert_allclose(together.canvas[1], mixed.canvas[0], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(together.kl_nats[..., 1], mixed.kl_nats[..., 0], rtol=1e-5)
  np.testing.assert_allclose(  # one key for the batch is a key for each place in it
      infer(params, jax.random.key(0), images).canvas, together.canvas, rtol=1e-5, atol=1e-5)


def test_convolutional_layers_apply_to_any_size(images):
  params, infer = random_params(CONV), inference(CONV)
  small = infer(params, jax.random.key(0), np.zeros((2, 1, 4, 2), np.uint8))
  assert small.canvas.shape == (2, 1, 4, 4)
  assert jnp.isfinite(small.canvas).all() and jnp.isfinite(small.kl_nats).all()
  # Outside an image lies mid grey, whether its size divides by the stride or not.
  framed = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=8)
  inner, outer = (infer(params, jax.random.key(0), x) for x in (images, framed))
  np.testing.assert_allclose(inner.canvas, outer.canvas[:, :7, :9], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(inner.kl_nats, outer.kl_nats, rtol=1e-5)


def test_bfloat16_computes_close_by_and_keeps_float32(images):
  params, infer = random_params(MIXED), inference(MIXED)
  half = MIXED.clone(compute_dtype=jnp.bfloat16)
  key = jax.random.key(0)
  shapes = jax.eval_shape(half.init, key, key, images)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))
  exact, rough = infer(params, key, images), jax.jit(half.apply)(params, key, images)
  assert rough.canvas.dtype == rough.kl_nats.dtype == jnp.float32
  np.testing.assert_allclose(rough.canvas, exact.canvas, atol=0.1)
  assert abs(rough.canvas - exact.canvas).max() > 0


@pytest.mark.parametrize('model', [DENSE, MIXED])
def test_fully_connected_layers_need_the_images_size(model, images):
  key = jax.random.key(0)
  with pytest.raises(UserError, match='image_size'):
    jax.eval_shape(model.clone(image_size=None).init, key, key, images)
  with pytest.raises(UserError, match=r'image_size=\(7, 9\).*\(7, 8\)'):
    jax.eval_shape(model.init, key, key, images[:, :, :8])


def test_no_convolutional_layer_above_a_fully_connected_one(images):
  key = jax.random.key(0)
  with pytest.raises(UserError, match=r'only such can be.*\[0, 2\]'):
    jax.eval_shape(
        TINY(stride=0, upper=(Layer(5, 3, 2),), image_size=SIZE).init, key, key, images)

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels
from conv_draw.errors import UserError
from conv_draw.model import objective, reference
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.latents import Bins
from conv_draw.model.layers import Layer
from conv_draw.model.noise import image_keys
from conv_draw.model.weights import WIDTH_SPEED

paper = jax.jit(reference.paper, static_argnums=0)


UPPER = {
    'one layer': dict(),
    'two convolutional': dict(upper=(Layer(5, 2, 2),)),
    'three, the top ones fully connected': dict(upper=(Layer(5, 2, 0), Layer(3, 1, 0))),
    'fully connected': dict(stride=0),
    'a large stride': dict(stride=3, kernel=3),
}


@pytest.mark.parametrize('pixels, upper, size', [
    (GaussianPixels(17), 'one layer', (8, 8)), (GaussianPixels(17), 'one layer', (3, 2)),
    *[(GaussianPixels(17), upper, (7, 9)) for upper in UPPER],
    (BernoulliPixels(), 'one layer', (7, 9))])
def test_recurrence_is_the_papers(pixels, upper, size):
  model = ConvDraw(
      channels=2, pixels=pixels, iterations=3, features=4, latents=2, image_size=size,
      **UPPER[upper])
  images = np.random.default_rng(0).integers(0, 17, (2, *size, 2)).astype(np.uint8)
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, images)
  keys = image_keys(key, 2)
  inference = jax.jit(model.apply)(params, keys, images)
  canvas, kl_nats = paper(model, params, keys, images)
  np.testing.assert_allclose(inference.canvas, canvas, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(inference.kl_nats, kl_nats, rtol=1e-3, atol=1e-6)


def test_one_layer_computes_what_it_did_before_there_were_more():
  model = ConvDraw(channels=2, pixels=GaussianPixels(17), iterations=4, features=8, latents=3)
  images = np.random.default_rng(0).integers(0, 17, (3, 7, 9, 2)).astype(np.uint8)
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, images)
  assert jax.jit(functools.partial(loss, model, images))(params) == pytest.approx(
      416.14111, rel=1e-6)  # computed by the code of one layer alone


@pytest.mark.parametrize('image_size', [None, (7, 8)])
def test_fully_connected_layers_fit_one_size(image_size, images):
  model = ConvDraw(
      channels=2, pixels=GaussianPixels(17), iterations=2, features=3, latents=2, stride=0,
      image_size=image_size)
  key = jax.random.key(0)
  with pytest.raises(UserError, match='image_size'):
    jax.eval_shape(model.init, key, key, images)


@pytest.mark.parametrize('kernel, stride', [(3, 1), (3, 2), (5, 3)])
def test_other_kernels_and_strides(kernel, stride, images):
  model = ConvDraw(
      channels=2, pixels=GaussianPixels(17), iterations=2, features=3, latents=2, kernel=kernel,
      stride=stride)
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, images)
  keys = image_keys(key, 3)
  canvas, _ = paper(model, params, keys, images)
  np.testing.assert_allclose(
      jax.jit(model.apply)(params, keys, images).canvas, canvas, rtol=1e-4, atol=1e-4)


def test_parameters_apply_to_any_size(model, params, infer):
  image = np.zeros((2, 1, 4, 2), np.uint8)
  terms = objective.elbo(model, image, infer(params, jax.random.key(0), image))
  assert terms.kl_nats.shape == (3, 1, 2)
  assert jnp.isfinite(terms.nats).all()


def test_storing_all_groups_is_inference_and_none_is_sampling(
    model, params, images, infer, reconstruct):
  key = jax.random.key(3)
  everything = reconstruct(params, key, images, 3)
  np.testing.assert_allclose(everything, infer(params, key, images).canvas, rtol=1e-5, atol=1e-5)
  nothing = reconstruct(params, key, images, 0)
  sample = jax.jit(lambda params, key: model.apply(params, key, 3, (7, 9), method='sample'))
  np.testing.assert_allclose(nothing, sample(params, key), rtol=1e-5, atol=1e-5)
  each = reconstruct(params, key, images, jnp.array([0, 3, 0]))
  np.testing.assert_allclose(each[1], everything[1], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(each[2], nothing[2], rtol=1e-5, atol=1e-5)
  assert abs(everything - nothing).max() > 1e-2


def test_generated_groups_can_have_keys_of_their_own(params, images, reconstruct):
  key, one, two = jax.random.split(jax.random.key(5), 3)
  draw = lambda groups, other: reconstruct(params, key, images, groups, generation_key=other)
  same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  same(draw(1, key), reconstruct(params, key, images, 1))
  np.testing.assert_array_equal(draw(3, one), draw(3, two))
  assert abs(draw(1, one) - draw(1, two)).max() > 1e-3
  same(draw(0, one), reconstruct(params, one, images, 0))


@pytest.mark.parametrize('posterior, gain', [('constant', 0), ('rounded', 0), ('uniform', 3)])
def test_posteriors_of_fixed_width(posterior, gain, images):
  model = ConvDraw(
      channels=2, pixels=GaussianPixels(17), iterations=2, features=3, latents=2,
      posterior=posterior, bins=Bins(gain=gain))
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, images)
  assert params['params']['posterior_log_sigma'].shape == (2, 2)
  drawn = jax.jit(model.apply)
  one, two = drawn(params, key, images), drawn(params, jax.random.key(1), images)
  assert (abs(one.canvas - two.canvas).max() == 0) == (posterior == 'rounded')
  wider = jax.tree.map(lambda x: x, params)
  wider['params']['posterior_log_sigma'] += 1
  assert abs(drawn(wider, key, images).kl_nats - one.kl_nats).max() > 1e-3
  sample = jax.jit(lambda key, temperature: model.apply(
      params, key, 3, (7, 9), temperature, method='sample'))
  assert jnp.isfinite(sample(key, 1.0)).all()
  np.testing.assert_array_equal(sample(key, 0.0), sample(jax.random.key(1), 0.0))
  if gain:  # means half as large with twice the gain are the same
    p = {**params['params']}
    np.testing.assert_allclose(jnp.exp(WIDTH_SPEED * p['posterior_log_gain']), gain, rtol=1e-6)
    p['posterior_log_gain'] += math.log(2) / WIDTH_SPEED
    assert abs(drawn({'params': p}, key, images).canvas - one.canvas).max() > 1e-3
    p.update({name: p[name] / 2 for name in ('posterior', 'posterior_bias')})
    np.testing.assert_allclose(drawn({'params': p}, key, images).canvas, one.canvas, atol=1e-5)


def test_temperature_zero_does_not_depend_on_the_key(params, images, infer, reconstruct):
  one, two = jax.random.key(1), jax.random.key(2)
  mean = lambda key: infer(params, key, images, 0.0)
  np.testing.assert_array_equal(mean(one).canvas, mean(two).canvas)
  assert abs(infer(params, one, images).canvas - mean(one).canvas).max() > 1e-3
  draw = lambda key, temperature: reconstruct(params, key, images, 1, temperature, 0.0)
  np.testing.assert_array_equal(draw(one, 0.0), draw(two, 0.0))
  assert abs(draw(one, 1.0) - draw(two, 1.0)).max() > 1e-3


def test_prior_does_not_see_the_latent_and_posterior_sees_the_image(params, images, infer):
  kl = lambda images, temperature: infer(
      params, jax.random.key(0), images, temperature).kl_nats[0, 0]
  # At t = 1 nothing random has happened before p and q: the drawn z_1 must not change them.
  np.testing.assert_allclose(kl(images, 0.0), kl(images, 1.0), rtol=1e-6)
  changed = images.copy()
  changed[0] = 16 - changed[0]
  difference = abs(kl(changed, 1.0) - kl(images, 1.0))
  assert difference[0] > 1e-4
  np.testing.assert_array_equal(difference[1:], 0)


def test_an_image_does_not_depend_on_the_batch_around_it(params, images, infer):
  keys = image_keys(jax.random.key(0), 3)
  together = infer(params, keys, images)
  order = np.array([1, 2, 2])
  mixed = infer(params, keys[order], images[order])
  np.testing.assert_allclose(together.canvas[1], mixed.canvas[0], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(together.kl_nats[..., 1], mixed.kl_nats[..., 0], rtol=1e-5)
  np.testing.assert_allclose(  # one key for the batch is a key for each place in it
      infer(params, jax.random.key(0), images).canvas, together.canvas, rtol=1e-5, atol=1e-5)


def test_log_ratio_averages_to_the_kl(params, images, infer):
  image = images[:1].repeat(4000, 0)
  inference = infer(params, jax.random.key(0), image)
  difference = inference.log_ratio_nats - inference.kl_nats.sum((0, 1))
  assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(4000)


def loss(model, images, params):
  terms = objective.elbo(model, images, model.apply(params, jax.random.key(0), images))
  return objective.loss(terms, 1.0)


def test_gradient_is_the_slope(model, params, images):
  value = jax.jit(functools.partial(loss, model, images))
  gradient = jax.jit(jax.grad(functools.partial(loss, model, images)))(params)
  leaves, structure = jax.tree.flatten(params)
  for seed in range(3):
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    direction = jax.tree.unflatten(structure, [
        jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])
    at = lambda e: value(jax.tree.map(lambda x, d: x + e * d, params, direction))  # noqa: B023
    step = 1e-3
    slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
    expected = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    assert slope == pytest.approx(float(expected), rel=2e-2, abs=0.5)


def test_rematerialisation_changes_nothing(model, params, images):
  gradient = lambda m: jax.jit(jax.grad(functools.partial(loss, m, images)))(params)
  jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3),
      gradient(model), gradient(model.clone(remat=True)))


def test_bfloat16_computes_close_by_and_keeps_float32(model, params, images, infer):
  half = model.clone(compute_dtype=jnp.bfloat16)
  key = jax.random.key(0)
  shapes = jax.eval_shape(half.init, key, key, images)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))
  exact = infer(params, jax.random.key(0), images)
  rough = jax.jit(half.apply)(params, jax.random.key(0), images)
  assert rough.canvas.dtype == rough.kl_nats.dtype == jnp.float32
  np.testing.assert_allclose(rough.canvas, exact.canvas, atol=0.1)
  assert abs(rough.canvas - exact.canvas).max() > 0

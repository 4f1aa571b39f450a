import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.errors import UserError
from conv_draw.model.latents import DiagonalGaussian, kl_divergence
from conv_draw.model.layers import Layer
from conv_draw.model.noise import image_keys
from tests.model.test_image_model import (
    MODELS,
    SIZE,
    TINY,
    compiled,
    initial_params,
    random_params,
)


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
  params = random_params('dense')
  keys = image_keys(jax.random.key(2), 3)
  inferred = compiled('dense')(params, keys, images)
  canvas, kl_nats = jax.jit(dense_reference)(params['params'], keys, images)
  np.testing.assert_allclose(inferred.canvas, canvas, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(inferred.kl_nats[0], jnp.stack(kl_nats), rtol=1e-4)


LATENTS = {'dense': (2, 3), 'conv': (4 * 5 * 2, 2 * 3 * 3), 'mixed': (4 * 5 * 2, 3)}


@pytest.mark.parametrize('name', LATENTS)
def test_training_starts_close_to_the_prior_and_the_initial_canvas(name, images):
  params = initial_params(name)
  inferred = compiled(name)(params, jax.random.key(0), images)
  assert inferred.kl_nats.shape == (1, 2, 3) and inferred.canvas.shape == (3, *SIZE, 4)
  assert (inferred.kl_nats[0] < 0.1 * np.array(LATENTS[name])[:, None]).all()
  canvas = params['params']['initial_canvas']
  assert abs(inferred.canvas - canvas).max() < 0.5
  np.testing.assert_allclose(
      canvas.reshape(-1, 4)[-1], MODELS[name].pixels.initial_canvas(2))


def test_convolutional_layers_apply_to_any_size(images):
  params, infer = random_params('conv'), compiled('conv')
  small = infer(params, jax.random.key(0), np.zeros((2, 1, 4, 2), np.uint8))
  assert small.canvas.shape == (2, 1, 4, 4)
  assert jnp.isfinite(small.canvas).all() and jnp.isfinite(small.kl_nats).all()
  # Outside an image lies mid grey, whether its size divides by the stride or not.
  framed = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=8)
  inner, outer = (infer(params, jax.random.key(0), x) for x in (images, framed))
  np.testing.assert_allclose(inner.canvas, outer.canvas[:, :7, :9], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(inner.kl_nats, outer.kl_nats, rtol=1e-5)


def test_no_convolutional_layer_above_a_fully_connected_one(images):
  key = jax.random.key(0)
  with pytest.raises(UserError, match=r'must be fully connected.*\[0, 2\]'):
    jax.eval_shape(
        TINY(stride=0, upper=(Layer(5, 3, 2),), image_size=SIZE).init, key, key, images)

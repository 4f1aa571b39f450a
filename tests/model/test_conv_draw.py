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
from conv_draw.model.vae import Vae
from conv_draw.model.weights import WIDTH_SPEED

paper = jax.jit(reference.paper, static_argnums=0)


MODELS = {
    'one layer': dict(),
    'two convolutional': dict(upper=(Layer(5, 2, 2),)),
    'three, the top ones fully connected': dict(upper=(Layer(5, 2, 0), Layer(3, 1, 0))),
    'fully connected': dict(stride=0),
    'stride 1': dict(stride=1, kernel=3),
    'a large stride': dict(stride=3, kernel=3),
    'bernoulli': dict(pixels=BernoulliPixels()),
}


@pytest.mark.parametrize(
    'name, size', [*((name, (7, 9)) for name in MODELS), ('one layer', (3, 2))])
def test_recurrence_is_the_papers(name, size):
  settings = dict(channels=2, pixels=GaussianPixels(17), iterations=3, features=4, latents=2,
                  image_size=size)
  model = ConvDraw(**settings | MODELS[name])
  images = np.random.default_rng(0).integers(0, 17, (2, *size, 2)).astype(np.uint8)
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, images)
  keys = image_keys(key, 2)
  inference = jax.jit(model.apply)(params, keys, images)
  canvas, kl_nats = paper(model, params, keys, images)
  np.testing.assert_allclose(inference.canvas, canvas, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(inference.kl_nats, kl_nats, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('image_size', [None, (7, 8)])
@pytest.mark.parametrize('kind', [ConvDraw, Vae])
def test_fully_connected_layers_fit_one_size(kind, image_size, images):
  key = jax.random.key(0)
  for more in (dict(stride=0), dict(upper=(Layer(5, 3, 0),))):
    model = kind(channels=2, pixels=GaussianPixels(17), image_size=image_size, **more)
    with pytest.raises(UserError, match=r'image_size=(None|\(7, 8\))'):
      jax.eval_shape(lambda: model.init(key, key, images))  # noqa: B023


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


def loss(model, images, params):
  terms = objective.elbo(model, images, model.apply(params, jax.random.key(0), images))
  return objective.loss(terms, 1.0)


def test_rematerialisation_changes_nothing(model, params, images):
  gradient = lambda m: jax.jit(jax.grad(functools.partial(loss, m, images)))(params)
  jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3),
      gradient(model), gradient(model.clone(remat=True)))

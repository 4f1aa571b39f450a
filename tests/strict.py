"""The models, the codec and a short run, tiny: a program to be run under JAX's strict settings."""

import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.codec.coder import Coder
from conv_draw.data import sets
from conv_draw.model import objective, pixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.integer_pixels import IntegerPixels
from conv_draw.model.layers import Layer
from conv_draw.model.local_draw import LocalDraw
from conv_draw.model.local_pixels import LocalPixels
from conv_draw.model.vae import Vae
from conv_draw.training import evaluate, loop
from experiments import digits
from tests.tiny import tiny

SMALL = {'iterations': 2, 'features': 3, 'latents': 2, 'kernel': 3}
GREY, COLOUR = (6, 5, 1), (6, 5, 3)


def images(shape):
  return np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)


def compute(model, x):
  """Parameters, after the loss, its gradients, samples and reconstructions have been computed."""
  key, size = jax.random.key(0), x.shape[1:3]
  params = jax.jit(model.init)(key, key, x)

  @jax.jit
  def gradients(params, x):
    loss = lambda params: objective.loss(objective.elbo(model, x, model.apply(params, key, x)), 1.0)
    return jax.value_and_grad(loss)(params)

  loss, _ = gradients(params, jax.device_put(x))
  assert np.isfinite(jax.device_get(loss))
  canvas = jax.jit(lambda params: model.apply(params, key, 2, size, method='sample'))(params)
  groups = np.minimum([0, 1], model.iterations)
  jax.jit(lambda params, x: model.apply(params, key, x, groups, method='reconstruct'))(params, x)
  if isinstance(model, LocalDraw):
    uniforms = jax.jit(functools.partial(model.apply, method='uniforms'))(params, key, canvas)
    jax.jit(lambda *given: model.apply(*given, jnp.zeros(x.shape), 0, 9, method='draw_pixels'))(
        params, uniforms, canvas)
  return params


def code(model, params, image, **how):
  coder = Coder(model, params)
  encoded = coder.encode(image, **how)
  np.testing.assert_array_equal(coder.decode(encoded.data)[0], encoded.decoded)
  return encoded


def models():
  """The models alone, and what codes with them."""
  grey, colour = images(GREY), images(COLOUR)
  compute(Vae(1, pixels.BernoulliPixels(), 3, 2, depth=2), grey)
  two_layers = ConvDraw(1, pixels.GaussianPixels(), upper=(Layer(3, 2, 2),), **SMALL)
  params = compute(two_layers, grey)
  Coder(two_layers, params).archive(grey, ['a', 'b'])
  rounded = ConvDraw(
      1, pixels.LogisticMixturePixels(mixtures=2), posterior='rounded', price=1.0, **SMALL)
  code(rounded, compute(rounded, grey), grey[0], lossless=True)
  progressive = ConvDraw(
      3, pixels.SquaredErrorPixels(), posterior='rounded', price=1.0, linear=True, restoration=2,
      prefixes=True, **SMALL | {'iterations': 4})
  params = compute(progressive, colour)
  code(progressive, params, colour[0], effort=1)
  code(progressive, params, colour[0], bits_per_dim=8.0, groups=3)
  mixture = pixels.LogisticMixturePixels(mixtures=2)
  real = LocalPixels(mixture, 1, 2, 4, 1, canvas_channels=1, position=True)
  compute(LocalDraw(ConvDraw(1, pixels.SquaredErrorPixels(), **SMALL), real), grey)
  whole = LocalDraw(None, IntegerPixels(1, 2, 4, 1, 2))
  code(whole, compute(whole, grey), grey[0], lossless=True, effort=1)


def training():
  """A short run with checkpoints, evaluated."""
  config = tiny(digits.get_config())
  config.train.update(steps=3, checkpoint_every=2, log_every=1, ema_decay=0.9)
  config.train.schedule, config.train.warmup_steps = 'cosine', 1
  load = lambda split: sets.load(config.data, split)
  with tempfile.TemporaryDirectory() as workdir:
    run = loop.train(config, workdir, load)
    assert np.isfinite(evaluate.evaluate(run).nats)


if __name__ == '__main__':
  models()
  training()

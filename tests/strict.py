"""A program that runs tiny models, the codec and a short training, for `test_strictness`."""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.local_pixels import LocalPixels
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.codec import latent_optimisation
from conv_draw.codec.coder import Coder
from conv_draw.data import sets
from conv_draw.model import objective, pixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.layers import Layer
from conv_draw.model.vae import Vae
from conv_draw.progressive.model import Progressive
from conv_draw.progressive.pixels import SquaredErrorPixels
from conv_draw.report import baselines
from conv_draw.training import evaluate, loop, start
from experiments import digits
from tests.tiny import tiny

SMALL = {'iterations': 2, 'features': 3, 'latents': 2, 'kernel': 3}
GREY, COLOUR = (6, 5, 1), (6, 5, 3)


def images(shape):
  return np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)


def traced(model, x):
  """Random parameters, once the loss, its gradients, samples and reconstructions are traced."""
  key, size = jax.random.key(0), x.shape[1:3]
  params = jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(model.init, key, key, x))

  def loss(params, x):
    return objective.loss(objective.elbo(model, x, model.apply(params, key, x)), 1.0)

  jax.eval_shape(jax.value_and_grad(loss), params, x)
  canvas = jax.eval_shape(lambda params: model.apply(params, key, 2, size, method='sample'), params)
  groups = np.minimum(np.arange(2), model.iterations)
  jax.eval_shape(
      lambda params, x: model.apply(params, key, x, groups, method='reconstruct'), params, x)
  if isinstance(model, LocalDraw):
    uniforms = jax.eval_shape(
        lambda params, canvas: model.apply(params, key, canvas, method='uniforms'), params, canvas)
    jax.eval_shape(
        lambda *given: model.apply(*given, jnp.zeros(x.shape), 0, 9, method='draw_pixels'),
        params, uniforms, canvas)
  return params


def drawn(path, like):
  """A random parameter; those that the progressive model does not train have valid values."""
  fixed = {'linear_width': 255, 'linear_component': 0, 'linear_worth': 1}.get(path[-1].key)
  if fixed is not None:
    return np.full(like.shape, fixed, like.dtype)
  return np.random.default_rng(1).normal(0, 0.1, like.shape).astype(like.dtype)


def code(model, params, image, **how):
  """Encodes an image to the bytes of a file and decodes them."""
  with jax.transfer_guard('disallow'):
    coder = Coder(model, params)
    encoded = coder.encode(image, **how)
    np.testing.assert_array_equal(coder.decode(encoded.data)[0], encoded.decoded)


def models():
  """Traces the models, and codes with them."""
  grey, colour = images(GREY), images(COLOUR)
  traced(Vae(1, pixels.BernoulliPixels(), 3, 2, depth=2), grey)
  two_layers = ConvDraw(1, pixels.GaussianPixels(), upper=(Layer(3, 2, 2),), **SMALL)
  params = traced(two_layers, grey)
  with jax.transfer_guard('disallow'):
    Coder(two_layers, params).archive(grey, ['a', 'b'])
  traced(ConvDraw(1, LogisticMixturePixels(mixtures=2), **SMALL), grey)
  rounded = ConvDraw(1, pixels.GaussianPixels(), posterior='rounded', **SMALL)
  code(rounded, traced(rounded, grey), grey[0], lossless=True)
  progressive = Progressive(
      3, 4, SMALL['features'], SMALL['latents'], SMALL['kernel'], 2, lmbda=1.0, filter_features=2)
  params = traced(progressive, colour)
  prepared = jax.eval_shape(
      lambda params: progressive.apply(params, COLOUR[:2], method='prepare'), params)
  seen = jax.eval_shape(progressive.observe, prepared, jnp.zeros(colour.shape))
  moves = jax.ShapeDtypeStruct((3, *seen.x.shape[:3], 2), jnp.float32)
  jax.eval_shape(jax.grad(lambda *args: sum(x.sum() for x in latent_optimisation._costs(
      progressive, args[1], args[2], 1.0, args[0]))), moves, prepared, seen)
  code(progressive, params, colour[0], bits_per_dim=8.0, groups=3)
  mixture = LogisticMixturePixels(mixtures=2)
  real = LocalPixels(mixture, 1, 2, 4, 1, canvas_channels=1, position=True)
  traced(LocalDraw(ConvDraw(1, SquaredErrorPixels(), **SMALL), real), grey)
  whole = LocalDraw(None, IntegerPixels(1, 2, 4, 1, 2))
  code(whole, traced(whole, grey), grey[0], lossless=True, effort=1)


def training():
  """A short run with checkpoints and evaluation.

  The transfer guard begins once the initial state exists: JAX counts keys and zeros as transfers.
  """
  prepare = start.start_or_resume

  def start_or_resume(*arguments):
    prepared = prepare(*arguments)
    jax.config.update('jax_transfer_guard', 'disallow')
    return prepared

  start.start_or_resume = start_or_resume
  config = tiny(digits.get_config())
  config.train.update(
      steps=3, checkpoint_every=2, log_every=1, ema_decay=0.9, schedule='cosine', warmup_steps=1)
  baselines.multivariate_gaussian_nats(*(
      sets.load(config.data, split) for split in ('train', 'test')))
  with tempfile.TemporaryDirectory() as workdir:
    evaluate.evaluate(loop.train(config, workdir))


if __name__ == '__main__':
  models()
  training()

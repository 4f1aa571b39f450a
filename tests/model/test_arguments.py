"""The arguments of models, objective and codec: what is refused, in one line, and what is taken."""

import ctypes
import functools
import io
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import GaussianPixels, LogisticMixturePixels, bits_per_dim, elbo
from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.local_pixels import LocalPixels
from conv_draw.codec.coder import Coder
from conv_draw.errors import UserError
from conv_draw.model import arguments
from conv_draw.model.conv_draw import ConvDraw, Inference
from conv_draw.model.noise import image_keys
from conv_draw.model.vae import Vae
from conv_draw.progressive.model import Progressive

KEY = jax.random.key(0)
IMAGES = np.zeros((2, 7, 9, 2), np.uint8)
UNREAD = {'params': {'other': np.zeros(1)}}  # arguments are refused before parameters are read
VAE = Vae(channels=2, pixels=GaussianPixels(17), features=3, latents=2)
NO_LATENTS = LocalDraw(None, IntegerPixels(2, 1, 3, 0, 2))


def refused(words, *calls):
  for call in calls:
    with pytest.raises(UserError, match=words) as error:
      call()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('value, words', [
    (IMAGES.tolist(), 'list is no array'), (IMAGES / 255.0, 'float64 is no type'),
    (IMAGES.astype(np.int8), 'int8'), (IMAGES[..., 0], r'\[B, H, W, 2\]'),
    (IMAGES[..., :1], r'\(2, 7, 9, 1\).*\[B, H, W, 2\]'), (IMAGES[:, :0], 'no pixels'),
    (jnp.asarray(IMAGES) + np.uint8(17), 'up to 17')])
def test_images(model, params, value, words):
  inference = Inference(jnp.zeros((2, 7, 9, 4)), None, None)
  refused(words, lambda: arguments.images(value, 'BHWC', 17, 'the images', 2),
          lambda: model.apply(params, KEY, value), lambda: model.unit_interval(value),
          lambda: VAE.apply(UNREAD, KEY, value, 0, method='reconstruct'),
          lambda: elbo(VAE, value, inference))


def test_an_inference_of_other_images():
  for size in ((1, 7, 9), (2, 7, 1)):
    inference = Inference(jnp.zeros((*size, 4)), None, None)
    refused('not those of a canvas', lambda: elbo(VAE, IMAGES, inference))  # noqa: B023


CHANGED = {  # of parameters
    'none': lambda params: None, 'list': lambda params: [params], 'empty': lambda params: {},
    'without names': lambda params: {'params': {}}, 'inner': lambda params: params['params'],
    'complex': lambda params: jax.tree.map(lambda x: x.astype(np.complex64), params),
    'lists': lambda params: jax.tree.map(lambda x: x.tolist(), params),
    'nothing': lambda params: jax.tree.map(lambda x: None, params),
    'another model': lambda params: UNREAD,
    'cut': lambda params: jax.tree.map(lambda x: x[..., :1], params)}


@pytest.mark.parametrize('change', CHANGED)
def test_parameters(change):
  images = np.zeros((1, 4, 4, 2), np.uint8)
  draw = ConvDraw(2, GaussianPixels(), 1, 2, 1, 3, posterior='uniform')
  for model in (draw, NO_LATENTS):
    params = CHANGED[change](jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(model.init, KEY, KEY, images)))
    refused('params: .*init returns', lambda: model.apply(params, KEY, images))  # noqa: B023
  refused('params: .*init returns', lambda: Coder(draw, params).encode(images[0, ..., :1]))


@pytest.mark.parametrize('key', [
    0, np.zeros(2, np.uint32), jax.random.PRNGKey(0), jax.random.split(KEY, 4),
    jax.random.split(KEY, (3, 3))])
def test_keys(key):
  refused('key', lambda: image_keys(key, 3))


@pytest.mark.parametrize('groups', [
    -1, 4, 1.0, True, None, [0, 3, -1], [[1], [1, 2]], [], jnp.array(4), jnp.array([1, 2])])
def test_groups(model, params, images, groups):
  refused('groups: .*0..3', lambda: model.apply(params, KEY, images, groups, method='reconstruct'))


@pytest.mark.parametrize('count, size, words', [
    (0, (7, 9), 'count: 0'), (1.0, (7, 9), 'count: 1.0 .*whole'), (True, (7, 9), 'count: True'),
    (None, (7, 9), 'count: None'), (1, (7, -9), 'image_size'), (1, (7.0, 9), 'image_size'),
    (1, 7, 'image_size: 7'), (1, (7,), r'image_size: \(7,\) .*give 2'),
    (1, (True, 9), 'image_size')])
def test_counts_and_sizes(model, params, count, size, words):
  for m, given in ((model, params), (VAE, UNREAD), (NO_LATENTS, UNREAD)):
    refused(words, lambda: m.apply(given, KEY, count, size, method='sample'))  # noqa: B023


@pytest.mark.parametrize('temperature', [-1, math.nan, 'hot', True, [1.0], jnp.array(-0.5)])
def test_temperatures(model, params, images, temperature):
  for m, given in ((model, params), (VAE, UNREAD)):
    apply = functools.partial(m.apply, given, KEY)
    refused(
        'temperature: ', lambda: apply(images, temperature),  # noqa: B023
        lambda: apply(2, (7, 9), temperature, method='sample'),  # noqa: B023
        lambda: apply(images, 1, temperature, method='reconstruct'),  # noqa: B023
        lambda: apply(images, 1, 1.0, temperature, method='reconstruct'))  # noqa: B023


def test_a_model_without_latents(images):
  refused('groups', lambda: NO_LATENTS.apply(UNREAD, KEY, images, 1, method='reconstruct'))
  refused('images', lambda: NO_LATENTS.apply(UNREAD, KEY, images[0], 0, method='reconstruct'))
  refused('places', lambda: NO_LATENTS.apply(UNREAD, KEY, images, places=-1))
  assert NO_LATENTS.apply(UNREAD, KEY, images, 0, method='reconstruct').shape == (3, 7, 9, 0)


def test_numbers_and_sizes():
  for value, most in ((-1, 3), (math.nan, math.inf), (True, 3), ('1', 3), (4, 3)):
    refused('rate', lambda: arguments.number(value, 'rate', 0, most))  # noqa: B023
  for shape in ((0, 7, 1), (7, 9), (7, 9, 1.0), 7):
    refused('image_shape', lambda: bits_per_dim(1.0, shape))  # noqa: B023


def test_good_arguments_are_taken():
  images = lambda x: arguments.images(x, 'BHWC', 17, 'the images', 2)
  for value in (IMAGES, jnp.asarray(IMAGES), IMAGES + np.uint8(16)):
    assert images(value) is value
    np.testing.assert_array_equal(jax.jit(images)(value), value)
  for value in (0, 3, np.int64(2), np.array([1, 2, 3]), jnp.array(2)):
    assert arguments.groups(value, 3, 3) is value
  np.testing.assert_array_equal(arguments.groups([0, 3, 1], 3, 3), [0, 3, 1])
  for value in (0, 2.5, np.float32(1), np.int8(1)):
    assert arguments.number(value, 'rate', 0, math.inf) is value
  for value in (0, 0.5, np.float32(1), np.array(1.0), jnp.array(2.0)):
    assert arguments.temperature(value) is value
    jax.jit(lambda value: arguments.temperature(value))(value)
  for value in ((7, 9), np.array([7, 9]), (np.int8(7), jnp.array(9))):
    assert arguments.size(value, 'HW', 'size') == (7, 9)


def test_bytes():
  data = b'\x00\x01\xff'
  array, released = np.frombuffer(data, np.uint8), memoryview(data)
  sparse = np.repeat(array, 2)[::2]
  released.release()
  for value in (data, bytearray(data), memoryview(sparse), array, jnp.asarray(array),
                (ctypes.c_ubyte * len(data))(*data)):
    assert arguments.file_bytes(value, 'file') == data
  for value, words in (('a.cdraw', 'path'), (pathlib.Path('a'), 'path'), (None, 'NoneType'),
                       (io.BytesIO(), 'BytesIO'), (np.zeros(3, np.int32), 'uint8'),
                       (jnp.zeros(3, jnp.bfloat16), 'no bytes'), (released, 'no bytes')):
    refused(f'^file: .*{words}', lambda: arguments.file_bytes(value, 'file'))  # noqa: B023


SMALL = ConvDraw(1, GaussianPixels(), iterations=2, features=3, latents=2, kernel=3)


@pytest.mark.parametrize('model', [
    SMALL, Progressive(1, 4, 3, 2, 3, 2, lmbda=1.0, filter_features=2),
    Vae(1, GaussianPixels(), features=3, latents=2, stride=0, image_size=(5, 6)),
    LocalDraw(SMALL, LocalPixels(LogisticMixturePixels(256, 2), 1, 1, 3, 1, canvas_channels=2)),
    LocalDraw(None, IntegerPixels(1, 1, 3, 1, 2))],
    ids=['draw', 'progressive', 'vae', 'local', 'integer'])
def test_parameters_of_other_types_compute_in_float32(model):
  images = np.zeros((2, 5, 6, 1), np.uint8)

  def compute(params):
    terms = elbo(model, images, model.apply(params, KEY, images))
    return terms.nats, model.apply(params, KEY, 2, (5, 6), method='sample')

  shapes = jax.eval_shape(model.init, KEY, KEY, images)
  half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes)
  found, expected = (jax.tree.map(lambda x: (x.shape, x.dtype), jax.eval_shape(compute, given))
                     for given in (half, shapes))
  assert found == expected


def test_bfloat16_parameters_are_those_numbers():
  model, images = SMALL.clone(winograd=False), np.zeros((1, 5, 6, 1), np.uint8)
  rng = np.random.default_rng(0)
  half = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.bfloat16),
                      jax.eval_shape(model.init, KEY, KEY, images))
  same = jax.tree.map(lambda x: x.astype(jnp.float32), half)
  infer = jax.jit(model.apply)
  jax.tree.map(np.testing.assert_array_equal, infer(half, KEY, images), infer(same, KEY, images))

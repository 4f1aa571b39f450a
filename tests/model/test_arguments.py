"""What is handed to models and objective: one line for what they do not take."""

import ctypes
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
from conv_draw.model.conv_draw import ConvDraw, Inference, image_keys
from conv_draw.model.vae import Vae
from conv_draw.progressive.model import Progressive

IMAGES = np.zeros((2, 7, 9, 2), np.uint8)
UNREAD = {'params': {'other': np.zeros(1)}}  # what is refused before parameters are read
BAD = [
    (IMAGES.tolist(), 'list is no array'), (None, 'NoneType is no array'),
    (IMAGES / 255.0, 'float64 is no type'), (jnp.zeros((2, 7, 9, 2)), 'float32 is no type'),
    (IMAGES.astype(np.int8), 'int8'), (IMAGES.astype(int) - 1, 'int64'), (IMAGES > 0, 'bool'),
    (IMAGES[0], r'\(7, 9, 2\)'), (IMAGES[..., 0], r'\[B, H, W, 2\]'), (IMAGES[None], 'shape'),
    (IMAGES[..., :1], r'\(2, 7, 9, 1\), and has to be \[B, H, W, 2\]'),
    (IMAGES[:, :0], 'no pixels'), (IMAGES + np.uint8(17), 'up to 17'),
    (jnp.asarray(IMAGES) + np.uint8(17), 'up to 17')]


@pytest.mark.parametrize('value, words', BAD)
def test_what_are_no_images_is_said_in_one_line(model, params, value, words):
  """By the helper, and by all that use it."""
  key, canvas = jax.random.key(0), jnp.zeros((2, 7, 9, 4))
  vae = Vae(channels=2, pixels=GaussianPixels(17))
  for call in (
      lambda: arguments.images(value, 'BHWC', 17, 'the images', 2),
      lambda: model.apply(params, key, value), lambda: vae.apply(UNREAD, key, value),
      lambda: vae.unit_interval(value), lambda: model.unit_interval(value),
      lambda: elbo(vae, value, Inference(canvas, None, None))):
    with pytest.raises(UserError, match=words) as error:
      call()
    assert '\n' not in str(error.value)


CHANGED = {  # parameters: what else they may be
    'none': lambda params: None, 'text': lambda params: 'x', 'list': lambda params: [params],
    'empty': lambda params: {}, 'without names': lambda params: {'params': {}},
    'inner': lambda params: params['params'],
    'complex': lambda params: jax.tree.map(lambda x: x.astype(np.complex64), params),
    'lists': lambda params: jax.tree.map(lambda x: x.tolist(), params),
    'nothing': lambda params: jax.tree.map(lambda x: None, params),
    'another model': lambda params: UNREAD,
    'cut': lambda params: jax.tree.map(lambda x: x[..., :1], params)}


@pytest.mark.parametrize('change', CHANGED)
def test_what_are_no_parameters_is_said_in_one_line(change):
  key, images = jax.random.key(0), np.zeros((1, 4, 4, 2), np.uint8)
  draw = ConvDraw(
      channels=2, pixels=GaussianPixels(), iterations=1, features=2, latents=1, kernel=3,
      posterior='uniform')
  for model in (draw, VAE, ALONE):
    params = CHANGED[change](jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(model.init, key, key, images)))
    calls = [lambda: model.apply(params, key, images)]  # noqa: B023
    if model is not ALONE:
      calls.append(lambda: model.apply(params, key, 1, (4, 4), method='sample'))  # noqa: B023
    if model is draw:
      calls.append(lambda: Coder(model, params).encode(images[0, ..., :1]))  # noqa: B023
    for call in calls:
      with pytest.raises(UserError, match='params: .*init returns') as error:
        call()
      assert '\n' not in str(error.value)


def test_an_inference_of_other_images_is_not_scored():
  vae = Vae(channels=2, pixels=GaussianPixels(17))
  for size in ((1, 7, 9), (2, 7, 1)):
    with pytest.raises(UserError, match='not those of a canvas'):
      elbo(vae, IMAGES, Inference(jnp.zeros((*size, 4)), None, None))


def test_numpy_jax_and_traced_images_are_taken():
  check = lambda x: arguments.images(x, 'BHWC', 17, 'the images', 2)
  for images in (IMAGES, jnp.asarray(IMAGES), IMAGES + np.uint8(16)):
    assert check(images) is images
    np.testing.assert_array_equal(jax.jit(check)(images), images)
  with pytest.raises(UserError, match='float32'):
    jax.jit(check)(jnp.zeros((2, 7, 9, 2)))


@pytest.mark.parametrize('key', [
    0, None, np.zeros(2, np.uint32), jax.random.PRNGKey(0), jax.random.split(jax.random.key(0), 4),
    jax.random.split(jax.random.key(0), (3, 3))])
def test_what_are_no_keys_is_said_in_one_line(key):
  with pytest.raises(UserError, match='key') as error:
    image_keys(key, 3)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('groups', [
    -1, 4, 1.0, True, 'all', None, [1, 2, 3, 1], [0, 3, -1], [[1]], [[1], [1, 2]], [],
    jnp.array(4), jnp.array(1.0), jnp.array([1, 2])])
def test_numbers_of_groups_that_there_are_not(model, params, images, groups):
  with pytest.raises(UserError, match='groups: .*0..3') as error:
    model.apply(params, jax.random.key(0), images, groups, method='reconstruct')
  assert '\n' not in str(error.value)


def test_numbers_in_their_range_are_taken():
  for value in (0, 3, np.int64(2), np.array([1, 2, 3]), jnp.array(2)):
    assert arguments.groups(value, 3, 3) is value
  for value in ([0, 3, 1], (0, 3, 1)):
    np.testing.assert_array_equal(np.asarray(arguments.groups(value, 3, 3)), value)
    assert isinstance(arguments.groups(value, 3, 3), np.ndarray)
  for value in (0, 2.5, np.float32(1), np.int8(1)):
    assert arguments.number(value, 'rate', 0, math.inf) is value
  for value, most in ((-1, 3), (math.nan, math.inf), (True, 3), ('1', 3), (4, 3), (None, 3)):
    with pytest.raises(UserError, match='rate'):
      arguments.number(value, 'rate', 0, most)
  with pytest.raises(UserError, match='whole'):
    arguments.number(1.0, 'rate', 0, 3, whole=True)


VAE = Vae(channels=2, pixels=GaussianPixels(17), features=3, latents=2)
ALONE = LocalDraw(None, IntegerPixels(2, 1, 3, 0, 2))  # without latents: nothing is computed


@pytest.mark.parametrize('count, size, words', [
    (0, (7, 9), 'count: 0'), (-1, (7, 9), 'count: -1'), (1.0, (7, 9), 'count: 1.0 .*whole'),
    (True, (7, 9), 'count: True'), (None, (7, 9), 'count: None'), ('1', (7, 9), "count: '1'"),
    (1, (0, 9), r'image_size: \(0, 9\)'), (1, (7, -9), 'image_size'),
    (1, (7.0, 9.0), r'image_size: \(7.0, 9.0\) .*whole'), (1, 7, 'image_size: 7'),
    (1, (7,), r'image_size: \(7,\) .*give 2'), (1, (7, 9, 2), 'image_size'),
    (1, '79', 'image_size'), (1, None, 'image_size: None'), (1, (True, 9), 'image_size')])
def test_what_cannot_be_sampled_is_said_in_one_line(model, params, count, size, words):
  key = jax.random.key(0)
  for call in (
      lambda: model.apply(params, key, count, size, method='sample'),
      lambda: VAE.apply(UNREAD, key, count, size, method='sample'),
      lambda: ALONE.apply(UNREAD, key, count, size, method='sample')):
    with pytest.raises(UserError, match=words) as error:
      call()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('temperature', [-1, math.nan, 'hot', None, True, [1.0], jnp.array(-0.5),
                                         np.array([1.0, 1.0])])
def test_what_is_no_temperature_is_said_in_one_line(model, params, images, temperature):
  key = jax.random.key(0)
  for call in (
      lambda: model.apply(params, key, images, temperature),
      lambda: model.apply(params, key, images, 1, temperature, method='reconstruct'),
      lambda: model.apply(params, key, images, 1, 1.0, temperature, method='reconstruct'),
      lambda: model.apply(params, key, 2, (7, 9), temperature, method='sample'),
      lambda: VAE.apply(UNREAD, key, images, 1, 1.0, temperature, method='reconstruct'),
      lambda: VAE.apply(UNREAD, key, 2, (7, 9), temperature, method='sample'),
      lambda: ALONE.apply(UNREAD, key, images, temperature)):
    with pytest.raises(UserError, match='temperature: ') as error:
      call()
    assert '\n' not in str(error.value)


def test_temperatures_that_there_are():
  for value in (0, 0.5, np.float32(1), np.array(1.0), jnp.array(2.0)):
    assert arguments.temperature(value) is value
    jax.jit(lambda value: arguments.temperature(value))(value)


def test_sizes_are_whole_numbers():
  for value in ((7, 9), [7, 9], np.array([7, 9]), (np.int8(7), jnp.array(9))):
    assert arguments.size(value, 'HW', 'size') == (7, 9)
  for shape in ((0, 7, 1), (7, 9), (7, 9, 1.0), 7):
    with pytest.raises(UserError, match='image_shape'):
      bits_per_dim(1.0, shape)


def test_local_pixels_alone_take_what_others_do(images):
  key = jax.random.key(0)
  for groups, those in ((1, images), (0, images[0])):
    with pytest.raises(UserError, match='groups|images'):
      ALONE.apply(UNREAD, key, those, groups, method='reconstruct')
  with pytest.raises(UserError, match='places'):
    ALONE.apply(UNREAD, key, images, places=-1)


DATA = b'\x00\x01\xff'


def test_bytes_of_any_kind_are_taken():
  array = np.frombuffer(DATA, np.uint8)
  sparse = np.repeat(array, 2)[::2]
  released = memoryview(DATA)
  released.release()
  for value in (DATA, bytearray(DATA), memoryview(DATA), memoryview(sparse), array, sparse,
                jnp.asarray(array), (ctypes.c_ubyte * len(DATA))(*DATA)):
    assert arguments.file_bytes(value, 'file') == DATA
  for value, words in (('a.cdraw', 'path'), (pathlib.Path('a'), 'path'), (None, 'NoneType'),
                       (3, 'int'), ([1, 2], 'list'), (io.BytesIO(), 'BytesIO'),
                       (np.zeros(3), 'uint8'), (np.zeros(3, np.int32), 'uint8'),
                       (jnp.zeros(3), 'uint8'), (jnp.zeros(3, jnp.bfloat16), 'no bytes'),
                       (np.zeros(3, 'M8[s]'), 'no bytes'), (released, 'no bytes')):
    with pytest.raises(UserError, match=f'^file: .*{words}') as error:
      arguments.file_bytes(value, 'file')
    assert '\n' not in str(error.value)


MIXTURE = LogisticMixturePixels(256, 2)
SMALL = ConvDraw(1, GaussianPixels(), iterations=2, features=3, latents=2, kernel=3)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('model', [
    SMALL, SMALL.clone(posterior='rounded'),
    Progressive(1, 4, 3, 2, 3, 2, lmbda=1.0, filter_features=2),
    Vae(1, GaussianPixels(), features=3, latents=2, stride=0, image_size=(5, 6)),
    LocalDraw(SMALL, LocalPixels(MIXTURE, 1, 1, 3, 1, canvas_channels=2)),
    LocalDraw(None, IntegerPixels(1, 1, 3, 1, 2))],
    ids=['draw', 'rounded', 'progressive', 'vae', 'local', 'integer'])
def test_parameters_of_other_types_are_computed_with_in_float32(model, dtype):
  images = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 1)).astype(np.uint8)
  key = jax.random.key(0)

  def compute(params):
    terms = elbo(model, images, model.apply(params, key, images))
    return terms.nats, model.apply(params, key, 2, (5, 6), method='sample')

  shapes = jax.eval_shape(model.init, key, key, images)
  few = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
  alike = jax.tree.map(lambda x: (x.shape, x.dtype), (
      jax.eval_shape(compute, few), jax.eval_shape(compute, shapes)))
  assert alike[0] == alike[1]


def test_they_are_those_numbers(model, params, images, infer):
  few = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  same = jax.tree.map(lambda x: x.astype(jnp.float32), few)
  key = jax.random.key(0)
  jax.tree.map(np.testing.assert_array_equal, infer(few, key, images), infer(same, key, images))

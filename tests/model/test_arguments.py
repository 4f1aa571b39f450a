"""What is handed to models and objective: one line for what they do not take."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import GaussianPixels, elbo
from conv_draw.errors import UserError
from conv_draw.model import arguments
from conv_draw.model.conv_draw import Inference, image_keys
from conv_draw.model.vae import Vae

IMAGES = np.zeros((2, 7, 9, 2), np.uint8)
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
      lambda: model.apply(params, key, value), lambda: vae.apply({}, key, value),
      lambda: elbo(vae, value, Inference(canvas, None, None))):
    with pytest.raises(UserError, match=words) as error:
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
    -1, 4, 1.0, True, 'all', None, [1, 2, 3, 1], [0, 3, -1], [[1]], jnp.array(4)])
def test_numbers_of_groups_that_there_are_not(model, params, images, groups):
  with pytest.raises(UserError, match='groups: .*0..3') as error:
    model.apply(params, jax.random.key(0), images, groups, method='reconstruct')
  assert '\n' not in str(error.value)


def test_numbers_in_their_range_are_taken():
  for value in (0, 3, np.int64(2), [0, 3, 1], np.array([1, 2, 3]), jnp.array(2)):
    assert arguments.groups(value, 3, 3) is value
  for value in (0, 2.5, np.float32(1), np.int8(1)):
    assert arguments.number(value, 'rate', 0, math.inf) is value
  for value, most in ((-1, 3), (math.nan, math.inf), (True, 3), ('1', 3), (4, 3), (None, 3)):
    with pytest.raises(UserError, match='rate'):
      arguments.number(value, 'rate', 0, most)
  with pytest.raises(UserError, match='whole'):
    arguments.number(1.0, 'rate', 0, 3, whole=True)

"""The codec as a library: what it takes, and what it says of what it does not."""

import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import BernoulliPixels
from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.codec import coder as coder_lib
from conv_draw.errors import UserError
from conv_draw.model.vae import Vae
from conv_draw.training import loop
from conv_draw.workdir import config as config_lib
from tests.codec.test_lossy import SIZE, trained
from tests.tiny import local

IMAGE = np.random.default_rng(0).integers(0, 17, (*SIZE, 1)).astype(np.uint8)


@pytest.fixture(scope='module')
def coder():
  return coder_lib.Coder(*trained(), 'tiny')


@pytest.mark.parametrize('image, words', [
    (IMAGE / 16, 'mine: float64 is no type'), (jnp.asarray(IMAGE) / 16, 'mine: float32 is no type'),
    (IMAGE.astype(np.int8), 'mine: int8'), (IMAGE.astype(int) - 5, 'mine: int64'),
    (IMAGE[..., 0], r'mine: the shape is \(7, 9\), and has to be \[H, W, C\]'),
    (IMAGE[None], r'mine: the shape is \(1, 7, 9, 1\)'), (IMAGE[:0], 'mine: there are no pixels'),
    (IMAGE.tolist(), 'mine: a list is no array'), (IMAGE + np.uint8(1), 'mine has pixels up to 17'),
    (jnp.asarray(IMAGE) + np.uint8(1), 'mine has pixels up to 17')])
def test_what_is_no_image_is_said_in_one_line(coder, image, words):
  with pytest.raises(UserError, match=words) as error:
    coder.encode(image, source='mine')
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('options, words', [
    (dict(groups=-1), 'groups: -1'), (dict(groups=4), 'groups: 4'), (dict(groups=1.0), 'whole'),
    (dict(bits_per_dim=-1), 'bits_per_dim'), (dict(bits_per_dim=math.nan), 'bits_per_dim'),
    (dict(tile_side=-5), 'tile_side'), (dict(tile_side=2.5), 'tile_side'),
    (dict(lossless=True, groups=1), 'lossless'), (dict(lossless=True, bits_per_dim=1), 'lossless')])
def test_other_arguments_too(coder, options, words):
  with pytest.raises(UserError, match=words) as error:
    coder.encode(IMAGE, **options)
  assert '\n' not in str(error.value)
  for temperature in (-1, math.nan, '1', None):
    with pytest.raises(UserError, match='temperature'):
      coder.decode(b'', temperature=temperature)


def test_the_bytes_of_a_file_are_taken_in_any_form(coder):
  data = coder.encode(IMAGE, lossless=True).data
  for held in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
    np.testing.assert_array_equal(coder.decode(held)[0], IMAGE)
  for value in ('file.cdraw', pathlib.Path('file.cdraw'), None, [1], np.zeros(3)):
    for method in (coder.decode, coder.extract):
      with pytest.raises(UserError, match='^mine: .*bytes') as error:
        method(value, source='mine')
      assert '\n' not in str(error.value)


def test_what_codes_is_asked_of_the_library():
  vae = Vae(channels=1, pixels=BernoulliPixels())
  for model in (None, 'photos_lossless', vae, LocalDraw(vae, IntegerPixels(1)),
                LocalDraw(None, IntegerPixels(1, whole=False)), LocalDraw(None, None)):
    with pytest.raises(UserError, match='^model: '):
      coder_lib.Coder(model, {})
  for workdir in (None, 3, b'runs', ['runs']):
    with pytest.raises(UserError, match='^workdir: '):
      coder_lib.Coder.load(workdir)


def test_what_is_not_archived():
  coder = coder_lib.Coder(*trained(posterior='gaussian'), 'tiny')
  for images, names, words in (
      (IMAGE, ['a'], 'shape'), (IMAGE[None] / 16, ['a'], 'float64'), (
          IMAGE[None][:0], [], 'no pixels'), (IMAGE[None], ['a', 'b'], '1 images and 2 names'),
      (IMAGE[None], None, '^names: '), (IMAGE[None], [3], '^names: ')):
    with pytest.raises(UserError, match=words):
      coder.archive(images, names)


def test_grey_values_are_no_binary_pixels():
  grey = IMAGE.copy()
  for posterior, code in (
      ('uniform', lambda coder: coder.encode(grey, lossless=True, source='mine')),
      ('gaussian', lambda coder: coder.archive(grey[None], ['a'], source='mine'))):
    coder = coder_lib.Coder(*trained(posterior=posterior, pixels=BernoulliPixels(17)), 'tiny')
    with pytest.raises(UserError, match='mine has more values than the two.*0 and 16'):
      code(coder)


def test_arrays_of_jax_are_taken(coder):
  assert coder.encode(jnp.asarray(IMAGE), groups=1).data == coder.encode(IMAGE, groups=1).data


def test_of_a_run_with_local_pixels_the_canvas_is_coded(config, tmp_path):
  local(config).model.posterior = 'uniform'
  config.train.update(steps=1, batch_size=8)
  loop.train(config, str(tmp_path / 'run'))
  coder = coder_lib.Coder.load(str(tmp_path / 'run'))
  image = np.random.default_rng(0).integers(0, 17, (8, 8, 1)).astype(np.uint8)
  np.testing.assert_array_equal(coder.decode(coder.encode(image, lossless=True).data)[0], image)
  config.model.steps = 0
  config_lib.store(config, str(tmp_path / 'alone'))
  with pytest.raises(UserError, match='alone has model.steps=0'):
    coder_lib.Coder.load(str(tmp_path / 'alone'))

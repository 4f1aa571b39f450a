"""Every distribution of pixels goes through both entropy coders."""

import functools

import jax
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels, LogisticMixturePixels
from conv_draw.codec import network as network_lib
from conv_draw.codec import pixel_models
from conv_draw.codec.coder import Coder
from conv_draw.codec.entropy.lifo_ans import AnsStack
from conv_draw.codec.entropy.range_coder import Reader, Writer
from conv_draw.errors import UserError
from conv_draw.model.conv_draw import ConvDraw
from tests.codec.entropy import gaussians

SIZE, BATCH = (5, 6), 3
DISTRIBUTIONS = [GaussianPixels(17), BernoulliPixels()]


@functools.cache
def build(pixels):
  model = ConvDraw(channels=3, pixels=pixels, iterations=1, features=4, latents=2)
  key = jax.random.key(0)
  shapes = jax.eval_shape(model.init, key, key, np.zeros((1, *SIZE, 3), np.uint8))
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)  # which pixels do not read
  return network_lib.Network(model, params, SIZE, BATCH)


@pytest.fixture(params=DISTRIBUTIONS, ids=str)
def network(request):
  return build(request.param)


def example(network, channels):
  """(canvas, images, valid) of a batch less padding: two images, parts of which are valid."""
  rng = np.random.default_rng(0)
  distribution = network.model.pixels
  canvas = np.asarray(distribution.initial_canvas(3)) + rng.normal(
      0, 0.5, (BATCH, *SIZE, distribution.canvas_channels(3)))
  valid = rng.random((2, *SIZE)) < 0.8
  binary = isinstance(distribution, BernoulliPixels)
  images = rng.integers(0, 2 if binary else distribution.grey_levels, (2, *SIZE, channels))
  images = (images * 255 if binary else images) * valid[..., None]
  return canvas.astype(np.float32), images.astype(np.uint8), valid


@pytest.mark.parametrize('channels', [1, 3])
def test_what_is_encoded_is_decoded(network, channels):
  canvas, images, valid = example(network, channels)
  writer, stack = Writer(), AnsStack(np.arange(9, dtype=np.uint32))
  before = stack.bits()
  for coder in (writer, stack):
    pixel_models.encode(coder, network, canvas, images, valid)
  reader, bits = Reader(writer.to_bytes()), stack.bits() - before
  # The stack's parameters are not rounded; the stream has an end and side information.
  assert abs(8 * len(writer.to_bytes()) - bits) < 0.02 * bits + 50
  for coder in (reader, stack):
    back = pixel_models.decode(coder, network, canvas, valid, channels)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, images)
  reader.finish()
  np.testing.assert_array_equal(stack.initial_words(), np.arange(9))


def test_pixels_take_the_bits_of_their_probability(network):
  canvas, images, valid = example(network, 3)
  writer = Writer()
  pixel_models.encode(writer, network, canvas, images, valid)
  pixels, at = network.model.pixels, np.nonzero(valid)
  values = images[valid].ravel()
  if isinstance(pixels, BernoulliPixels):
    bits = gaussians.bit_code_length_bits(values > 0, canvas[at].ravel())
  else:
    mean, log_sigma = (np.asarray(x)[at].ravel() for x in pixels.split(canvas[:2]))
    bits = gaussians.pixel_code_length_bits(values, 16 * mean, 16 * np.exp(log_sigma), 17)
  assert bits - 1 < 8 * len(writer.to_bytes()) < 1.01 * bits + 50


def test_nothing_valid_is_nothing_to_code(network):
  canvas, images, valid = example(network, 3)
  writer = Writer()
  pixel_models.encode(writer, network, canvas, images, valid & False)
  assert writer.to_bytes() == b''
  back = pixel_models.decode(Reader(b''), network, canvas, valid & False, 3)
  assert back.shape == images.shape and not back.any()


def test_mixtures_are_not_coded():
  network = build(LogisticMixturePixels(17, 2))
  with pytest.raises(UserError, match='logistic_mixture: use gaussian'):
    Coder(network.model, network.params)

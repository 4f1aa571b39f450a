"""Every distribution of pixels goes through streams and stacks by the same questions."""

import functools

import jax
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels, LogisticMixturePixels
from conv_draw.codec import network as network_lib
from conv_draw.codec import pixels as pixels_lib
from conv_draw.codec.entropy.stack import Stack
from conv_draw.codec.entropy.stream import Reader, Writer
from conv_draw.errors import UserError
from conv_draw.model.conv_draw import ConvDraw

SIZE, BATCH = (5, 6), 3
MIXTURE = LogisticMixturePixels(17, 2)
DISTRIBUTIONS = [GaussianPixels(17), BernoulliPixels(), MIXTURE, LogisticMixturePixels(256, 3)]


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


def example(network, channels, seed=0):
  """(canvas, images, inside) of one batch less padding: two images, parts of which are inside."""
  rng = np.random.default_rng(seed)
  distribution = network.model.pixels
  canvas = np.asarray(distribution.initial_canvas(3)) + rng.normal(
      0, 0.5, (BATCH, *SIZE, distribution.canvas_channels(3)))
  inside = rng.random((2, *SIZE)) < 0.8
  binary = isinstance(distribution, BernoulliPixels)
  images = rng.integers(0, 2 if binary else distribution.grey_levels, (2, *SIZE, channels))
  images = (images * 255 if binary else images) * inside[..., None]
  return canvas.astype(np.float32), images.astype(np.uint8), inside


class Stream:
  """A `Writer`, then a `Reader` of what it wrote."""

  def __init__(self):
    self.sink = Writer()

  def source(self):
    self._reader = Reader(self.sink.to_bytes())
    return self._reader

  def finish(self):
    self._reader.finish()


class OneStack:
  """A `Stack` that is as it was in the end."""

  def __init__(self):
    self.sink = Stack(np.arange(9, dtype=np.uint32))

  def source(self):
    return self.sink

  def finish(self):
    np.testing.assert_array_equal(self.sink.initial_words(), np.arange(9))


@pytest.mark.parametrize('coder', [Stream, OneStack])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('block', [2**14, 8])
def test_what_is_encoded_is_decoded(network, coder, channels, block, monkeypatch):
  monkeypatch.setattr(pixels_lib, 'BLOCK', block)
  coder, (canvas, images, inside) = coder(), example(network, channels)
  assert np.isnan(pixels_lib.encode(coder.sink, network, canvas, images, inside))
  back = pixels_lib.decode(coder.source(), network, canvas, inside, channels)
  assert back.dtype == np.uint8
  np.testing.assert_array_equal(back, images)
  coder.finish()


def test_both_cost_what_is_promised(network):
  canvas, images, inside = example(network, 3)
  writer, stack = Writer(), Stack(np.arange(9, dtype=np.uint32))
  before = stack.bits()
  promised = pixels_lib.encode(writer, network, canvas, images, inside, measure=True)
  assert promised - 1 < 8 * len(writer.to_bytes()) < 1.01 * promised + 50
  again = pixels_lib.encode(stack, network, canvas, images, inside, measure=True)
  assert again == pytest.approx(promised)
  # A stack codes under parameters that are not rounded.
  assert stack.bits() - before == pytest.approx(promised, rel=0.02, abs=32)


def test_nothing_inside_is_nothing_to_code(network):
  canvas, images, inside = example(network, 3)
  writer = Writer()
  pixels_lib.encode(writer, network, canvas, images, inside & False)
  assert writer.to_bytes() == b''
  back = pixels_lib.decode(Reader(b''), network, canvas, inside & False, 3)
  assert back.shape == images.shape and not back.any()


def test_values_that_there_are_not_are_refused():
  """17 levels take bits that could hold 32."""
  network, writer = build(MIXTURE), Writer()
  canvas, images, inside = example(network, 3)
  message = 'a pixel is 31 of 17 levels'
  with pytest.raises(UserError, match=message):
    pixels_lib.encode(writer, network, canvas, np.full_like(images, 31), inside)
  with pytest.raises(UserError, match=message):  # which came after the bits of a channel were put
    pixels_lib.decode(Reader(writer.to_bytes()), network, canvas, inside, 3)


def test_a_distribution_without_questions_is_named():
  network = type('Network', (), {'model': type('Model', (), {'pixels': 'another'})})
  with pytest.raises(TypeError, match='another'):
    pixels_lib.decode(Reader(b''), network, np.zeros((1, 2, 2, 1)), np.ones((1, 2, 2), bool), 1)

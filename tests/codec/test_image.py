import jax
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels, LogisticMixturePixels
from conv_draw.codec import coder as coder_lib
from conv_draw.codec import image as image_lib
from conv_draw.codec import network as network_lib
from conv_draw.codec import tiles
from conv_draw.codec.format import container
from conv_draw.errors import UserError
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.layers import Layer

SIZE = (7, 9)


def trained(channels=1, **settings):
  """(model, parameters)."""
  settings = dict(pixels=GaussianPixels(17), posterior='uniform') | settings
  model = ConvDraw(
      channels=channels, iterations=3, features=4, latents=2, image_size=SIZE, **settings)
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, np.zeros((1, *SIZE, channels), np.uint8))
  p = params['params']
  for name in p:  # as after training: posteriors that say something, in bins of several widths
    if 'log_sigma' not in name and 'bias' not in name and name.startswith('posterior'):
      p[name] = 10 * p[name]
    if 'log_sigma' in name:
      p[name] = p[name] + 0.1 * jax.random.normal(key, p[name].shape) - 0.1
  return model, params


def build(size=SIZE, batch=1, **settings):
  return network_lib.Network(*trained(**settings), size, batch)


WHOLE = tiles.tiling(SIZE, 0)
ENDS = [1, 2, 3]


def encode(network, image, tiling=WHOLE, **options):
  return image_lib.encode(network, tiling, image, ENDS, measure=True, **options)


def decode(network, segments, tiling=WHOLE, channels=1, **options):
  return image_lib.decode(network, tiling, segments, ENDS, channels, **options)


@pytest.fixture(scope='module')
def network():
  return build()


@pytest.fixture(scope='module')
def image():
  return np.random.default_rng(0).integers(0, 17, (*SIZE, 1)).astype(np.uint8)


@pytest.mark.parametrize('settings', [
    dict(), dict(posterior='rounded'), dict(upper=(Layer(3, 2, 0),)),
    dict(pixels=BernoulliPixels()), dict(pixels=LogisticMixturePixels(17, 2))])
def test_lossless_is_lossless_at_the_promised_size(settings, image):
  network = build(**settings)
  if isinstance(network.model.pixels, BernoulliPixels):
    image = 255 * (image > 8).astype(np.uint8)
  segments, bits = encode(network, image, seed=7, lossless=True)
  np.testing.assert_array_equal(decode(network, segments, seed=7), image)
  for segment, promised in zip(segments, bits, strict=True):
    # A stream's end takes 8 to 16 bits, its lists of corrections a few.
    assert promised - 1 < 8 * len(segment.payload) < 1.01 * promised + 50
  assert bits[:-1].sum() > 20  # the latents do say something


def test_fewer_groups_are_a_coarser_image(network, image):
  segments, _ = encode(network, image)
  everything = decode(network, segments)
  for count in (0, 1, 2):
    some = decode(network, segments[:count])
    assert some.shape == image.shape and (some != everything).any()
    np.testing.assert_array_equal(some, decode(network, segments[:count]))
  hot = decode(network, segments[:1], temperature=1.0)
  assert (hot != decode(network, segments[:1])).any()


def test_groups_that_are_not_stored_are_not_computed(network, image, monkeypatch):
  everything, computed, posteriors = encode(network, image)[0], [], network.posteriors
  monkeypatch.setattr(
      network, 'posteriors', lambda t, *rest: computed.append(t) or posteriors(t, *rest))
  for count in (2, 1, 0):
    assert image_lib.encode(network, WHOLE, image, ENDS[:count])[0] == everything[:count]
    assert computed == list(range(count))
    computed.clear()


def test_coded_latents_are_those_of_the_model_in_distribution(network, image):
  """What dithered coding promises is what the model's own bound says, on average over dithers."""
  promised = [encode(network, image, seed=s)[1].sum() for s in range(40)]
  infer = jax.jit(network.model.apply)
  params = network.params
  bounds = infer(params, jax.random.key(0), image[None].repeat(200, 0)).kl_nats.sum(
      (0, 1)) / np.log(2)
  error = np.hypot(np.std(promised) / np.sqrt(40), np.std(bounds) / np.sqrt(200))
  assert np.mean(promised) == pytest.approx(float(bounds.mean()), abs=4 * error + 1)


def test_other_dithers_and_models_do_not_decode(network, image):
  segments, _ = encode(network, image, seed=7, lossless=True)
  for wrong, seed in ((network, 8), (build(posterior='rounded'), 7)):
    try:
      assert (decode(wrong, segments, seed=seed) != image).any()
    except UserError:
      pass  # the usual end; else the container's fingerprint and seed are there


def test_segments_go_through_the_container(network, image):
  segments, _ = encode(network, image, lossless=True)
  header = container.Header(
      container.LOSSLESS, 9, 7, 1, 17, 3, 0, container.EACH, 0, bytes(8), 'test')
  _, back = container.read(container.write(header, segments))
  np.testing.assert_array_equal(decode(network, back), image)


@pytest.mark.parametrize('settings', [
    dict(), dict(channels=3, pixels=LogisticMixturePixels(17, 2))])
def test_tiles(settings):
  """Of an image that no tile fits: more than a batch of them, and padding on both sides."""
  tiling = tiles.tiling((14, 23), 6)._replace(tile_size=(5, 6), at_once=5 * 5 * 6)
  assert tiling.grid == (3, 4)
  assert [len(c) for c in tiling.chunks()] == [5, 5, 2]
  network = build((5, 6), tiling.batch, **settings)
  channels = network.model.channels
  image = np.random.default_rng(0).integers(0, 17, (14, 23, channels)).astype(np.uint8)
  segments, bits = encode(network, image, tiling, lossless=True)
  back = decode(network, segments, tiling, channels)
  np.testing.assert_array_equal(back, image)
  for segment, promised in zip(segments, bits, strict=True):
    assert promised - 1 < 8 * len(segment.payload) < 1.01 * promised + 200
  some = decode(network, segments[:2], tiling, channels)
  assert some.shape == image.shape and (some != image).any()


def test_grey_images_with_a_colour_model(image):
  network = build(channels=3)
  segments, bits = encode(network, image, lossless=True)
  np.testing.assert_array_equal(decode(network, segments), image)
  assert decode(network, segments[:-1]).shape == image.shape
  in_colour, more = encode(network, image.repeat(3, -1), lossless=True)
  np.testing.assert_array_equal(decode(network, in_colour, channels=3), image.repeat(3, -1))
  assert bits[-1] < more[-1] / 2


def test_several_groups_in_a_segment(network, image):
  segments, bits = image_lib.encode(network, WHOLE, image, [1, 3], lossless=True, measure=True)
  assert [s.index for s in segments] == [1, 3, container.PIXELS_INDEX]
  single, more = encode(network, image, lossless=True)
  np.testing.assert_allclose(bits, [more[0], more[1] + more[2], more[3]])
  assert segments[0] == single[0]
  back = image_lib.decode(network, WHOLE, segments, [1, 3], 1)
  np.testing.assert_array_equal(back, image)
  np.testing.assert_array_equal(
    image_lib.decode(network, WHOLE, segments[:1], [1, 3], 1), decode(network, single[:1]))


def test_what_a_decoder_would_refuse_is_not_encoded(image, monkeypatch):
  coder = coder_lib.Coder(*trained(), 'name')
  monkeypatch.setattr(tiles, 'AT_ONCE', 12)  # one tile at a time
  with pytest.raises(UserError, match='no groups'):
    coder.encode(image, groups=0, tile_side=4)
  coder = coder_lib.Coder(*trained(upper=(Layer(3, 2, 0),)), 'name', SIZE)
  with pytest.raises(UserError, match='tiles of 3x4.*9x7 alone'):
    coder.encode(image, tile_side=4)

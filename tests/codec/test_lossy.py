import jax
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels
from conv_draw.codec import coder as coder_lib
from conv_draw.codec import lossy
from conv_draw.codec import network as network_lib
from conv_draw.codec import tiling as tiling_lib
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
  for name in p:  # as after training: informative posteriors, in bins of several widths
    if 'log_sigma' not in name and 'bias' not in name and name.startswith('posterior'):
      p[name] = 10 * p[name]
    if 'log_sigma' in name:
      p[name] = p[name] + 0.1 * jax.random.normal(key, p[name].shape) - 0.1
  return model, params


def build(size=SIZE, batch=1, **settings):
  return network_lib.Network(*trained(**settings), size, batch)


WHOLE = tiling_lib.tiling(SIZE, 0)
ENDS = [1, 2, 3]


def encode(network, image, tiling=WHOLE, ends=ENDS, **options):
  return lossy.encode(network, tiling, image, ends, **options)


def decode(network, segments, tiling=WHOLE, channels=1, **options):
  return lossy.decode(network, tiling, segments, ENDS, channels, **options)


def bits_of(segments):
  return np.array([8 * len(segment.payload) for segment in segments])


@pytest.fixture(scope='module')
def network():
  return build()


@pytest.fixture(scope='module')
def image():
  return np.random.default_rng(0).integers(0, 17, (*SIZE, 1)).astype(np.uint8)


@pytest.mark.parametrize('settings', [
    dict(posterior='rounded'), dict(upper=(Layer(3, 2, 0),)), dict(pixels=BernoulliPixels())])
def test_lossless_is_lossless(settings, image):
  network = build(**settings)
  if isinstance(network.model.pixels, BernoulliPixels):
    image = 255 * (image > 8).astype(np.uint8)
  segments = encode(network, image, seed=7, lossless=True)
  np.testing.assert_array_equal(decode(network, segments, seed=7), image)
  assert bits_of(segments[:-1]).sum() > 60  # the latents are informative


def test_a_file_takes_what_the_bound_says(network, image):
  """On average over dithers, with the pixels under the distribution of the canvas."""
  sizes = np.array([bits_of(encode(network, image, seed=s, lossless=True)) for s in range(40)])
  inference = jax.jit(network.model.apply)(
      network.params, jax.random.key(0), image[None].repeat(200, 0))
  bounds = np.asarray(inference.kl_nats).sum((0, 1)) / np.log(2)
  error = np.hypot(np.std(sizes) / np.sqrt(40), np.std(bounds) / np.sqrt(200))
  # A stream's end takes 8 to 16 bits, its side information a few.
  assert -4 * error < sizes[:, :-1].sum(1).mean() - bounds.mean() < 4 * error + 3 * 20
  nats = float(network.model.reconstruction_nats(image[None].repeat(200, 0), inference).mean())
  # L^x is an upper bound of the exact mass of a grey level.
  assert 0.9 * nats / np.log(2) < sizes[:, -1].mean() < 1.02 * nats / np.log(2) + 20


def test_fewer_groups_are_a_coarser_image(network, image):
  segments = encode(network, image)
  everything = decode(network, segments)
  for count in (0, 1, 2):
    some = decode(network, segments[:count])
    assert some.shape == image.shape and (some != everything).any()
    np.testing.assert_array_equal(some, decode(network, segments[:count]))
  hot = decode(network, segments[:1], temperature=1.0)
  assert (hot != decode(network, segments[:1])).any()


def test_groups_that_are_not_stored_are_not_computed(network, image, monkeypatch):
  everything, computed, posteriors = encode(network, image), [], network.posteriors
  monkeypatch.setattr(
      network, 'posteriors', lambda t, *rest: computed.append(t) or posteriors(t, *rest))
  for count in (2, 1, 0):
    assert encode(network, image, ends=ENDS[:count]) == everything[:count]
    assert computed == list(range(count))
    computed.clear()


def test_other_dithers_and_models_do_not_decode(network, image):
  segments = encode(network, image, seed=7, lossless=True)
  for wrong, seed in ((network, 8), (build(posterior='rounded'), 7)):
    try:
      assert (decode(wrong, segments, seed=seed) != image).any()
    except UserError:
      pass  # the usual end; the container has a fingerprint and the seed


def test_tiles():
  """An image that no tile fits: more than a batch of them, and padding on both sides."""
  tiling = tiling_lib.tiling((14, 23), 6)._replace(tile_size=(5, 6), max_pixels=5 * 5 * 6)
  assert tiling.grid == (3, 4)
  assert [len(c) for c in tiling.chunks()] == [5, 5, 2]
  network = build((5, 6), tiling.batch)
  image = np.random.default_rng(0).integers(0, 17, (14, 23, 1)).astype(np.uint8)
  segments = encode(network, image, tiling, lossless=True)
  np.testing.assert_array_equal(decode(network, segments, tiling), image)
  some = decode(network, segments[:2], tiling)
  assert some.shape == image.shape and (some != image).any()


def test_grey_images_with_a_colour_model(image):
  network = build(channels=3)
  segments = encode(network, image, lossless=True)
  np.testing.assert_array_equal(decode(network, segments), image)
  assert decode(network, segments[:-1]).shape == image.shape
  in_colour = encode(network, image.repeat(3, -1), lossless=True)
  np.testing.assert_array_equal(decode(network, in_colour, channels=3), image.repeat(3, -1))
  assert bits_of(segments)[-1] < bits_of(in_colour)[-1] / 2


def test_several_groups_in_a_segment(network, image):
  segments = encode(network, image, ends=[1, 3], lossless=True)
  assert [s.index for s in segments] == [1, 3, container.PIXELS_INDEX]
  single = encode(network, image, lossless=True)
  assert segments[0] == single[0] and segments[-1] == single[-1]
  assert abs(bits_of(segments)[1] - bits_of(single)[1:3].sum()) < 40
  back = lossy.decode(network, WHOLE, segments, [1, 3], 1)
  np.testing.assert_array_equal(back, image)
  np.testing.assert_array_equal(
    lossy.decode(network, WHOLE, segments[:1], [1, 3], 1), decode(network, single[:1]))


def test_what_a_decoder_would_refuse_is_not_encoded(image, monkeypatch):
  coder = coder_lib.Coder(*trained(), 'name')
  monkeypatch.setattr(tiling_lib, 'MAX_PIXELS', 12)  # one tile at a time
  with pytest.raises(UserError, match='no groups'):
    coder.encode(image, groups=0, tile_side=4)
  coder = coder_lib.Coder(*trained(upper=(Layer(3, 2, 0),)), 'name', SIZE)
  with pytest.raises(UserError, match='tiles of 3x4.*9x7 alone'):
    coder.encode(image, tile_side=4)

import jax
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels
from conv_draw.codec import bits_back
from conv_draw.codec import network as network_lib
from conv_draw.errors import UserError
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.layers import Layer

SIZE = (5, 6)


def build(seed=0, **settings):
  settings = dict(pixels=GaussianPixels(17)) | settings
  model = ConvDraw(channels=1, iterations=2, features=4, latents=2, image_size=SIZE, **settings)
  key = jax.random.key(seed)
  params = jax.jit(model.init)(key, key, np.zeros((1, *SIZE, 1), np.uint8))
  # Posteriors that say something: as after training, far narrower than the prior and elsewhere.
  params['params']['posterior'] = 3 * params['params']['posterior']
  params['params']['posterior_bias'] = params['params']['posterior_bias'].at[2:].set(-1.5)
  return network_lib.Network(model, params, SIZE)


@pytest.fixture(scope='module')
def network():
  return build()


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).integers(0, 17, (40, *SIZE, 1)).astype(np.uint8)


def test_archive_gives_the_images_back_at_the_expected_rate(network, images):
  data, initial_bits, rates = bits_back.encode(network, images)
  np.testing.assert_array_equal(bits_back.decode(network, data, len(images)), images)
  bits = round(initial_bits + rates.net * len(images))
  assert 8 * len(data) - 8 <= bits < 8 * len(data)  # with one bit more, that marks the end
  assert rates.gross == pytest.approx(rates.net + initial_bits / len(images))
  # One draw of the latents costs more or less than the mean KL: by sqrt(dimensions / 2) nats or so.
  latents = 2 * sum(np.prod(shape) for shape in network.shapes) * len(images)
  deviation = np.sqrt(latents / 2) / np.log(2) / len(images)
  assert abs(rates.net - rates.expected) < 5 * deviation


@pytest.mark.parametrize('settings', [
    dict(upper=(Layer(3, 2, 0),)), dict(pixels=BernoulliPixels())])
def test_other_models(settings, images):
  network = build(**settings)
  images = images[:3]
  if isinstance(network.model.pixels, BernoulliPixels):
    images = 255 * (images > 8).astype(np.uint8)
  data, _, _ = bits_back.encode(network, images)
  np.testing.assert_array_equal(bits_back.decode(network, data, 3), images)


def test_no_images_cost_the_initial_bits(network):
  data, initial_bits, rates = bits_back.encode(network, np.zeros((0, *SIZE, 1), np.uint8))
  assert rates.net == 0 and initial_bits <= 8 * len(data)
  assert bits_back.decode(network, data, 0).shape == (0, *SIZE, 1)


def test_what_cannot_be_decoded_is_an_error(network, images):
  data, _, _ = bits_back.encode(network, images[:3], seed=1)
  for wrong, count, seed in ((network, 3, 2), (network, 2, 1), (build(seed=5), 3, 1)):
    with pytest.raises(UserError):
      bits_back.decode(wrong, data, count, seed)


def test_walking_step_by_step_is_what_apply_does(network, images):
  """The canvas from posterior means, iteration by iteration, and from the whole scan."""
  state, observed = network.start(), network.observe(images[:1])
  for t in range(network.model.iterations):
    posteriors, state = network.posteriors(t, observed, state)
    state = network.update(t, state, [mean.astype(np.float32) for mean, _ in posteriors])
  params = {'params': network_params(network)}
  expected = network.model.apply(params, jax.random.key(0), images[:1], 0.0).canvas[0]
  np.testing.assert_allclose(network.canvas(state)[0], expected, rtol=1e-4, atol=1e-4)


def network_params(network):
  return network.params['params']

"""Files that another machine wrote, whose floats differ a little, or too much."""

import jax
import numpy as np
import pytest

from conv_draw import BernoulliPixels, GaussianPixels
from conv_draw.codec import coder as coder_lib
from conv_draw.codec import network as network_lib
from conv_draw.codec import pixel_models, quantiser, validation
from conv_draw.errors import UserError
from tests.codec.test_lossy import SIZE, trained

PIXELS = (GaussianPixels(17), BernoulliPixels(17))


@pytest.fixture(scope='module', params=PIXELS, ids=lambda p: type(p).__name__)
def coder(request):
  return coder_lib.Coder(*trained(pixels=request.param), 'some', SIZE)


@pytest.fixture(scope='module')
def images(coder):
  values = [0, 16] if isinstance(coder.model.pixels, BernoulliPixels) else range(17)
  return np.random.default_rng(0).choice(values, (8, *SIZE, 1)).astype(np.uint8)


def elsewhere(monkeypatch, canvas_error, prior_error=0.0):
  """From here on, every float is off by up to these: as on another machine."""
  rng = np.random.default_rng(1)
  off = lambda x, error: (x + error * rng.uniform(-1, 1, x.shape)).astype(x.dtype)
  canvas, prior = network_lib.Network.canvas, network_lib.Network.prior

  def other_prior(self, *arguments):
    mean, sigma = prior(self, *arguments)
    return off(mean, prior_error * (sigma + abs(mean))), sigma * 2 ** off(0 * sigma, prior_error)

  monkeypatch.setattr(network_lib.Network, 'prior', other_prior)
  monkeypatch.setattr(network_lib.Network, 'canvas', lambda self, state: off(
      canvas(self, state), canvas_error))


def test_floats_within_the_corrections_decode_to_the_same(coder, images, monkeypatch):
  files = [coder.encode(image, lossless=True) for image in images]
  elsewhere(monkeypatch, pixel_models.MEAN_ERROR, quantiser.LOG2_SCALE_ERROR)
  for file, image in zip(files, images, strict=True):
    np.testing.assert_array_equal(coder.decode(file.data)[0], image)


def test_floats_that_differ_more_are_said_to_be_of_another_machine(coder, images, monkeypatch):
  file, lossy = (coder.encode(images[0], lossless=lossless) for lossless in (True, False))
  elsewhere(monkeypatch, 0.3)
  with pytest.raises(UserError) as error:
    coder.decode(file.data, source='x.cdraw')
  message = str(error.value)
  assert 'x.cdraw is not damaged' in message and '--partial' in message and '\n' not in message
  version = '.'.join(map(str, jax.__version_info__[:3]))
  assert message.count(version) == 2  # the writer's and this one
  assert 'JAX_PLATFORMS' not in message
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  with pytest.raises(UserError, match='or on the CPU .JAX_PLATFORMS=cpu.; --partial'):
    coder.decode(file.data)
  # Without the pixels' segment it is the lossy image.
  monkeypatch.undo()
  elsewhere(monkeypatch, 0.3)
  decoded, _, segments = coder.decode(file.data, partial=True)
  assert len(segments) == len(file.segments) - 1
  monkeypatch.undo()
  assert abs(decoded.astype(int) - coder.decode(lossy.data)[0]).max() < 17


def test_with_latents_that_do_not_decode_partial_keeps_those_before(coder, images, monkeypatch):
  file = coder.encode(images[0])
  prior = network_lib.Network.prior

  def wrong_in_the_last(self, i, part, t, *rest):
    mean, sigma = prior(self, i, part, t, *rest)
    return (mean + 50 * sigma if t == 2 else mean), sigma

  monkeypatch.setattr(network_lib.Network, 'prior', wrong_in_the_last)
  with pytest.raises(UserError, match='is not damaged'):
    coder.decode(file.data)
  _, _, segments = coder.decode(file.data, partial=True)
  assert segments == file.segments[:2]


def test_files_of_before_do_not_say_what_wrote_them(coder, images, monkeypatch):
  monkeypatch.setattr(validation, 'jax_version', lambda: None)
  file = coder.encode(images[0], lossless=True)
  elsewhere(monkeypatch, 0.3)
  with pytest.raises(UserError, match='an unknown version'):
    coder.decode(file.data)


def test_the_users_types_and_precision_change_nothing(images, coder):
  file = coder.encode(images[0], lossless=True).data
  with jax.enable_x64(True), jax.default_matmul_precision('bfloat16'):
    other = coder_lib.Coder(coder.model, coder.params, 'some', SIZE)
    assert other.encode(images[0], lossless=True).data == file

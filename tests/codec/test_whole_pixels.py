import functools

import numpy as np
import pytest

from conv_draw.codec import whole_pixels
from conv_draw.codec.whole_pixels import WholePixels
from conv_draw.errors import UserError
from tests.autoregressive.test_integer_pixels import COLOUR, GREY, params_of


@functools.cache
def coder(head, size, batch):
  return WholePixels(head, params_of(head), size, batch, head.channels)


def smooth(head, size, count=2, seed=0):
  steps = np.random.default_rng(seed).normal(0, 8, (count, *size, head.channels))
  return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


def encode(coder, images, sizes, change=None):
  change = np.zeros(coder.changes) if change is None else change
  return coder.encode(coder.parameters(change), images, sizes)


def decode(coder, data, sizes, change=None):
  change = np.zeros(coder.changes) if change is None else change
  return coder.decode(coder.parameters(change), data, sizes)


def whole(images):
  return np.array([images.shape[1:3]] * len(images))


@pytest.mark.parametrize('head, size', [
    (COLOUR, (6, 7)), (COLOUR, (1, 1)), (GREY, (1, 9)), (GREY, (9, 1))])
def test_decodes_what_was_encoded_at_the_promised_cost(head, size, monkeypatch):
  monkeypatch.setattr(whole_pixels, 'AT_ONCE', 5)
  images = smooth(head, size)
  images[1] = np.random.default_rng(1).integers(0, 256, images[1].shape)
  data, bits = encode(coder(head, size, 2), images, whole(images))
  np.testing.assert_array_equal(decode(coder(head, size, 2), data, whole(images)), images)
  for part, promised in zip(data, bits, strict=True):
    assert promised <= 8 * len(part) <= promised + 8 * 4 + 16


def test_lanes_share_one_stream(monkeypatch):
  lanes = 3
  monkeypatch.setattr(whole_pixels, 'lanes_of', lambda size, horizon: lanes)
  images = smooth(COLOUR, (12, 9))
  coder = WholePixels(COLOUR, params_of(COLOUR), (12, 9), 2, 3)
  data, bits = encode(coder, images, whole(images))
  np.testing.assert_array_equal(decode(coder, data, whole(images)), images)
  assert sum(map(len, data)) * 8 < bits.sum() + 2 * (32 * lanes + 16)


def test_what_is_no_stream_is_refused():
  images = smooth(COLOUR, (6, 7))
  data, _ = encode(coder(COLOUR, (6, 7), 2), images, whole(images))
  rng = np.random.default_rng(0)
  for number in range(30):
    bad = [bytearray(part) for part in data]
    part = bad[number % 2]
    if number % 3 == 0:
      del part[rng.integers(len(part)) :]
    elif number % 3 == 1:
      part[rng.integers(len(part))] ^= 1 << rng.integers(8)
    else:
      part += bytes(2)
    with pytest.raises(UserError):
      decode(coder(COLOUR, (6, 7), 2), [bytes(part) for part in bad], whole(images))


def test_of_a_tile_only_what_there_is_is_coded():
  images, sizes = smooth(COLOUR, (6, 7)), np.array([[3, 7], [6, 2]])
  data, bits = encode(coder(COLOUR, (6, 7), 2), images, sizes)
  decoded = decode(coder(COLOUR, (6, 7), 2), data, sizes)
  for tile, image, size in zip(decoded, images, sizes, strict=True):
    there = tuple(slice(n) for n in size)
    np.testing.assert_array_equal(tile[there], image[there])
    assert not tile[size[0] :].any() and not tile[:, size[1] :].any()
  # Alone, as an image of its size, a tile is coded the same way.
  alone, _ = encode(coder(COLOUR, (3, 7), 1), images[:1, :3], sizes[:1])
  assert len(alone[0]) == len(data[0])


def test_of_equal_channels_one_is_coded():
  grey = smooth(COLOUR, (6, 7))[..., :1]
  one = WholePixels(COLOUR, params_of(COLOUR), (6, 7), 2, 1)
  data, _ = encode(one, grey, whole(grey))
  np.testing.assert_array_equal(decode(one, data, whole(grey)), grey)

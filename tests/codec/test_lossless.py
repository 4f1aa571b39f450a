import functools

import numpy as np
import pytest

from conv_draw.codec import lossless
from conv_draw.codec.lossless import TileCodec
from conv_draw.errors import UserError
from tests.autoregressive.test_integer_pixels import COLOUR, GREY, params_of


@functools.cache
def codec(head, size, batch):
  return TileCodec(head, params_of(head), size, batch, head.channels)


def smooth(head, size, count=2, seed=0):
  steps = np.random.default_rng(seed).normal(0, 8, (count, *size, head.channels))
  return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


def encode(codec, images, sizes):
  return codec.encode(codec.parameters(np.zeros(codec.biases)), images, sizes)


def decode(codec, data, sizes):
  return codec.decode(codec.parameters(np.zeros(codec.biases)), data, sizes)


def table_bits(head, images):
  """The ideal code length of each image, under the tables of its pixels."""
  nats = np.asarray(head.apply(params_of(head), images, method='cost'))
  return nats.reshape(len(images), -1).sum(1) / np.log(2)


def whole(images):
  return np.array([images.shape[1:3]] * len(images))


@pytest.mark.parametrize('head, size', [
    (COLOUR, (6, 7)), (COLOUR, (1, 1)), (GREY, (1, 9)), (GREY, (9, 1))])
def test_decodes_what_was_encoded_at_the_ideal_length(head, size, monkeypatch):
  monkeypatch.setattr(lossless, 'WAVEFRONTS', 5)
  images = smooth(head, size)
  images[1] = np.random.default_rng(1).integers(0, 256, images[1].shape)
  data = encode(codec(head, size, 2), images, whole(images))
  np.testing.assert_array_equal(decode(codec(head, size, 2), data, whole(images)), images)
  for part, bits in zip(data, table_bits(head, images), strict=True):
    assert bits <= 8 * len(part) <= bits + 8 * 4 + 16


def test_interleaved_coders_share_one_stream(monkeypatch):
  coders = 3
  monkeypatch.setattr(lossless, 'coders_of', lambda size, radius: coders)
  images = smooth(COLOUR, (12, 9))
  coder = TileCodec(COLOUR, params_of(COLOUR), (12, 9), 2, 3)
  data = encode(coder, images, whole(images))
  np.testing.assert_array_equal(decode(coder, data, whole(images)), images)
  assert sum(map(len, data)) * 8 < table_bits(COLOUR, images).sum() + 2 * (32 * coders + 16)


def test_what_is_no_stream_is_refused():
  images = smooth(COLOUR, (6, 7))
  data = encode(codec(COLOUR, (6, 7), 2), images, whole(images))
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
      decode(codec(COLOUR, (6, 7), 2), [bytes(part) for part in bad], whole(images))


def test_of_a_tile_only_what_there_is_is_coded():
  images, sizes = smooth(COLOUR, (6, 7)), np.array([[3, 7], [6, 2]])
  data = encode(codec(COLOUR, (6, 7), 2), images, sizes)
  decoded = decode(codec(COLOUR, (6, 7), 2), data, sizes)
  for tile, image, size in zip(decoded, images, sizes, strict=True):
    there = tuple(slice(n) for n in size)
    np.testing.assert_array_equal(tile[there], image[there])
    assert not tile[size[0] :].any() and not tile[:, size[1] :].any()
  # Alone, as an image of its size, a tile is coded the same way.
  alone = encode(codec(COLOUR, (3, 7), 1), images[:1, :3], sizes[:1])
  assert len(alone[0]) == len(data[0])


def test_of_equal_channels_one_is_coded():
  grey = smooth(COLOUR, (6, 7))[..., :1]
  one = TileCodec(COLOUR, params_of(COLOUR), (6, 7), 2, 1)
  data = encode(one, grey, whole(grey))
  np.testing.assert_array_equal(decode(one, data, whole(grey)), grey)

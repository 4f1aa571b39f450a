import functools

import numpy as np
import pytest

from conv_draw.codec import lossless
from conv_draw.codec import tiling as tiling_lib
from conv_draw.codec.lossless import TileCodec
from conv_draw.codec.parameter_tuning import UNCHANGED
from conv_draw.errors import UserError
from tests.autoregressive.test_integer_pixels import COLOUR, GREY, params_of


@functools.cache
def codec(head, size, batch):
  size = tiling_lib.padded_size(size)
  return TileCodec(head, params_of(head), size, batch, head.channels)


def smooth(head, size, count=2, seed=0):
  steps = np.random.default_rng(seed).normal(0, 8, (count, *size, head.channels))
  return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


def encode(codec, images, sizes):
  return codec.encode(codec.parameters(UNCHANGED), images, sizes)


def decode(codec, data, size, sizes):
  return codec.decode(codec.parameters(UNCHANGED), data, size, sizes)


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
  np.testing.assert_array_equal(decode(codec(head, size, 2), data, size, whole(images)), images)
  for part, bits in zip(data, table_bits(head, images), strict=True):
    assert bits <= 8 * len(part) <= bits + 8 * 4 + 16


def test_interleaved_coders_share_one_stream(monkeypatch):
  coders = 3
  monkeypatch.setattr(lossless, 'coders_of', lambda size, radius: coders)
  images = smooth(COLOUR, (12, 9))
  coder = TileCodec(COLOUR, params_of(COLOUR), (16, 16), 2, 3)
  data = encode(coder, images, whole(images))
  np.testing.assert_array_equal(decode(coder, data, (12, 9), whole(images)), images)
  assert sum(map(len, data)) * 8 < table_bits(COLOUR, images).sum() + 2 * (32 * coders + 16)


@pytest.mark.parametrize('pixels_per_coder', [7, 4096])
def test_tiles_of_any_size_have_the_same_bytes_in_the_same_programs(pixels_per_coder, monkeypatch):
  monkeypatch.setattr(lossless, 'PIXELS_PER_CODER', pixels_per_coder)
  padded = TileCodec(COLOUR, params_of(COLOUR), (16, 16), 2, 3)
  for size in ((16, 16), (13, 15), (16, 3)):
    images = smooth(COLOUR, size)
    data = encode(padded, images, whole(images))
    np.testing.assert_array_equal(decode(padded, data, size, whole(images)), images)
    if size == (13, 15):
      exact = TileCodec(COLOUR, params_of(COLOUR), size, 2, 3)
      assert encode(exact, images, whole(images)) == data
  by_name = [name for name, _ in padded._compiled]  # 'take' once for each length of stream
  assert by_name.count('intervals') == by_name.count('put') == 1


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
      decode(codec(COLOUR, (6, 7), 2), [bytes(part) for part in bad], (6, 7), whole(images))


def test_of_a_tile_only_what_there_is_is_coded():
  images, sizes = smooth(COLOUR, (6, 7)), np.array([[3, 7], [6, 2]])
  data = encode(codec(COLOUR, (6, 7), 2), images, sizes)
  decoded = decode(codec(COLOUR, (6, 7), 2), data, (6, 7), sizes)
  for tile, image, size in zip(decoded, images, sizes, strict=True):
    there = tuple(slice(n) for n in size)
    np.testing.assert_array_equal(tile[there], image[there])
    assert not tile[size[0] :].any() and not tile[:, size[1] :].any()
  # Alone, as an image of its size, a tile is coded the same way.
  alone = encode(codec(COLOUR, (3, 7), 1), images[:1, :3], sizes[:1])
  assert len(alone[0]) == len(data[0])


def test_of_equal_channels_one_is_coded():
  grey = smooth(COLOUR, (6, 7))[..., :1]
  one = TileCodec(COLOUR, params_of(COLOUR), (8, 8), 2, 1)
  data = encode(one, grey, whole(grey))
  np.testing.assert_array_equal(decode(one, data, (6, 7), whole(grey)), grey)

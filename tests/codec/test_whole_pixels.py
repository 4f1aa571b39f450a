import functools

import numpy as np
import pytest

from conv_draw.codec import whole_pixels
from conv_draw.codec.whole_pixels import WholePixels
from conv_draw.errors import UserError
from tests.model.test_integer_pixels import COLOUR, GREY, params_of


@functools.cache
def coder(head, size, batch):
  return WholePixels(head, params_of(head), size, batch)


def smooth(head, size, count=2, seed=0):
  steps = np.random.default_rng(seed).normal(0, 8, (count, *size, head.channels))
  return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


@pytest.mark.parametrize('head, size', [
    (COLOUR, (6, 7)), (COLOUR, (1, 1)), (GREY, (1, 9)), (GREY, (9, 1))])
def test_decodes_what_was_encoded_at_the_promised_cost(head, size, monkeypatch):
  monkeypatch.setattr(whole_pixels, 'AT_ONCE', 5)
  images = smooth(head, size)
  images[1] = np.random.default_rng(1).integers(0, 256, images[1].shape)
  data, bits = coder(head, size, 2).encode(images)
  np.testing.assert_array_equal(coder(head, size, 2).decode(data), images)
  for part, promised in zip(data, bits, strict=True):
    assert promised <= 8 * len(part) <= promised + 8 * 4 + 16


@pytest.mark.parametrize('lanes', [1, 2, 3])
def test_lanes_share_one_stream(lanes, monkeypatch):
  monkeypatch.setattr(whole_pixels, 'lanes_of', lambda size, horizon: lanes)
  images = smooth(COLOUR, (12, 9))
  coder = WholePixels(COLOUR, params_of(COLOUR), (12, 9), 2)
  data, bits = coder.encode(images)
  np.testing.assert_array_equal(coder.decode(data), images)
  assert sum(map(len, data)) * 8 < bits.sum() + 2 * (32 * lanes + 16)


def test_what_is_no_stream_is_refused():
  images = smooth(COLOUR, (6, 7))
  data, _ = coder(COLOUR, (6, 7), 2).encode(images)
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
      coder(COLOUR, (6, 7), 2).decode([bytes(part) for part in bad])

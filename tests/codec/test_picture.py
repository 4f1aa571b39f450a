"""Lossless files of latents first, then whole-number pixels that see the canvas."""

import functools

import jax
import numpy as np
import pytest

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.codec import network as network_lib
from conv_draw.codec.coder import Coder
from conv_draw.codec.entropy import stream
from conv_draw.errors import UserError
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.latents import Bins
from conv_draw.model.pixels import GaussianPixels

SIZE, TILE = (13, 17), 9


@functools.cache
def coder():
  draw = ConvDraw(channels=3, pixels=GaussianPixels(), iterations=3, features=4, latents=2,
                  kernel=3, posterior='rounded', bins=Bins(0.3))
  model = LocalDraw(draw, IntegerPixels(3, 2, 16, 1, mixtures=3, canvas=True))
  key = jax.random.key(0)
  params = jax.jit(functools.partial(model.init, places=1))(key, key, image()[None])
  noise = iter(jax.random.split(key, len(jax.tree.leaves(params))))
  return Coder(model, jax.tree.map(
      lambda x: x + 0.1 * jax.random.normal(next(noise), x.shape), params), 'both')


@functools.cache
def image(channels=3):
  steps = np.random.default_rng(0).normal(0, 8, (*SIZE, channels))
  return np.clip(128 + steps.cumsum(0).cumsum(1), 0, 255).astype(np.uint8)


@functools.cache
def file(channels=3):
  return coder().encode(image(channels), lossless=True, tile_side=TILE)


@pytest.mark.parametrize('channels', [3, 1])
def test_decodes_exactly_and_cut_to_the_coarser_image(channels):
  data = file(channels).data
  np.testing.assert_array_equal(coder().decode(data)[0], image(channels))
  lossy = coder().encode(image(channels), tile_side=TILE)
  cut = data[: len(data) - len(file(channels).segments[-1].payload) - 1]
  coarse, _, segments = coder().decode(cut, partial=True)
  np.testing.assert_array_equal(coarse, lossy.decoded)
  assert [s.payload for s in segments] == [s.payload for s in file(channels).segments[:-1]]


def test_pixels_see_the_canvas():
  """With another picture, what follows is another stream."""
  pixels = coder()._pixels_of(coder()._tiling(SIZE, 0), 3)
  params, sizes = pixels.parameters(np.zeros(pixels.changes)), np.array([SIZE])
  of = lambda picture: pixels.encode(params, image()[None], sizes, picture[None])[0][0]
  assert of(image()) != of(255 - image())
  np.testing.assert_array_equal(
      pixels.decode(params, [of(image())], sizes, image()[None])[0], image())


def test_a_canvas_that_differs_as_between_machines_decodes_the_same(monkeypatch):
  right = network_lib.Network.canvas
  noise = np.random.default_rng(0)

  def elsewhere(self, state):
    found = right(self, state)
    return found + np.float32(1e-6) * noise.choice([-1, 1], found.shape).astype(np.float32)

  monkeypatch.setattr(network_lib.Network, 'canvas', elsewhere)
  np.testing.assert_array_equal(coder().decode(file().data)[0], image())


@pytest.mark.parametrize('off', [-1, 1])
def test_what_is_in_doubt_is_settled(off):
  position = np.array([0.5, 1.4999, 2.5001, 3.2, 254.5, 100.0])
  writer = stream.Writer()
  written = writer.put_nearest(position, 2e-4)
  data = writer.to_bytes()
  reader = stream.Reader(data)
  np.testing.assert_array_equal(reader.take_nearest(position + off * 2e-4), written)
  reader.finish()
  np.testing.assert_array_equal(written, np.rint(position))
  assert len(data) < 6


def test_damage_is_no_image():
  segment = file().segments[-1]
  for payload in (segment.payload[:1], b'\xff\xff' + segment.payload[2:], segment.payload + b'\0'):
    with pytest.raises(UserError):
      coder()._decode(file().header, coder()._tiling(SIZE, TILE),
                      [*file().segments[:-1], segment._replace(payload=payload)])

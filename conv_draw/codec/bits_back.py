"""Bits-back coding of many images into one stream (section 3; Hinton & van Camp, 1993).

The sender draws z from the posterior by decoding it from the bits of the images before, codes the
image given z, then codes z under the prior: per image, the stream grows by the pixels' cost plus
log q(z) - log p(z), on average the KL (5). The receiver undoes it in reverse, last image first
(Townsend et al., 2019).
"""

from typing import NamedTuple

import numpy as np

from conv_draw.codec import pixel_models
from conv_draw.codec.entropy.lifo_ans import AnsStack
from conv_draw.codec.entropy.range_coder import Undecodable

# Latents are rounded to a grid around the prior's mean, with CELLS cells per standard deviation of
# the prior: so every prior is the same Gaussian. The KL changes in second order of 1 / CELLS.
CELLS = 32.0
LOW, HIGH = -256, 255  # +-8 standard deviations
BITS_PER_LATENT = 9  # the most that drawing from a posterior on that grid takes


class Rates(NamedTuple):
  """The rates of an archive, in bits per image."""

  net: float  # growth of the stream
  gross: float  # the whole size, with the initial bits
  expected: float  # mean KL on the grid plus the pixels' cost: what `net` is on average


def encode(network, images, seed=0):
  """Images into bytes.

  Args:
    network: `network.Network` of a model with Gaussian posteriors, for one image at a time.
    images: [N, H, W, C] uint8 of 0..grey_levels-1.
    seed: of the initial bits.
  Returns:
    (bytes, number of initial bits, `Rates`).
  """
  stack = AnsStack(initial_words(network, seed))
  before, expected = stack.bits(), 0.0
  for image in images:
    drawn = []  # symbols, in the order in which they were taken from the stack
    state, observed = network.start(), network.observe(image[None])
    for t in range(network.model.iterations):
      posteriors, state = network.posteriors(t, observed, state)
      zs = [None] * len(posteriors)
      for i in reversed(range(len(posteriors))):
        prior = network.prior(i, 0, t, state, zs)
        q = _on_grid(posteriors[i], prior)
        symbols = stack.take_integers(*q, LOW, HIGH)
        expected += _kl_bits(*q)
        drawn.append(symbols)
        zs[i] = _latent(symbols, prior)
      state = network.update(t, state, zs)
    size = stack.bits()
    pixel_models.encode(stack, network, network.canvas(state), image[None], _everywhere(network))
    expected += stack.bits() - size
    for symbols in reversed(drawn):
      stack.put_integers(symbols, *_grid_prior(len(symbols)), LOW, HIGH)
  count = max(len(images), 1)
  return stack.to_bytes(), before, Rates(
      (stack.bits() - before) / count, stack.bits() / count, expected / count)


def decode(network, data, count, seed=0):
  """Undoes `encode`: [count, H, W, C] uint8.

  Raises:
    UserError: data that another model, machine or seed wrote.
  """
  stack = AnsStack.from_bytes(data)
  images = []
  for _ in range(count):
    drawn = []  # [(symbols, z of each layer)] by iteration
    state = network.start()
    for t in range(network.model.iterations):
      symbols, zs = [None] * len(network.shapes), [None] * len(network.shapes)
      for i in reversed(range(len(zs))):
        n = int(np.prod(network.shapes[i]))
        symbols[i] = stack.take_integers(*_grid_prior(n), LOW, HIGH)
        zs[i] = _latent(symbols[i], network.prior(i, 0, t, state, zs))
      drawn.append((symbols, zs))
      state = network.update(t, state, zs)
    image = pixel_models.decode(
        stack, network, network.canvas(state), _everywhere(network), network.model.channels)[0]
    images.append(image)
    # Put back the bits that drawing took, under the posteriors of the decoded image.
    state, observed, taken = network.start(), network.observe(image[None]), []
    for t, (symbols, zs) in enumerate(drawn):
      posteriors, state = network.posteriors(t, observed, state)
      for i in reversed(range(len(zs))):
        above = [z if j > i else None for j, z in enumerate(zs)]
        taken.append((symbols[i], *_on_grid(
            posteriors[i], network.prior(i, 0, t, state, above))))
      state = network.update(t, state, zs)
    for symbols, mean, scale in reversed(taken):
      stack.put_integers(symbols, mean, scale, LOW, HIGH)
  if not np.array_equal(stack.initial_words(), initial_words(network, seed)):
    raise Undecodable('the archive does not end where it began')
  return np.stack(images[::-1]) if images else np.zeros(
      (0, *network.image_size, network.model.channels), np.uint8)


def initial_words(network, seed):
  """Random uint32 words to draw the first image's latents from, as many as that can take."""
  bits = network.model.iterations * BITS_PER_LATENT * sum(int(np.prod(s)) for s in network.shapes)
  return np.random.Generator(np.random.PCG64(seed)).integers(
      0, 2**32, bits // 32 + 2, dtype=np.uint32)


def _everywhere(network):
  return np.ones((1, *network.image_size), bool)


def _grid_prior(n):
  return np.zeros(n), np.full(n, CELLS)


def _on_grid(posterior, prior):
  """(mean, scale) of the posterior in cells from the prior's mean."""
  cell = prior[1] / CELLS
  return (posterior[0] - prior[0]) / cell, posterior[1] / cell


def _latent(symbols, prior):
  return (prior[0] + symbols * (prior[1] / CELLS)).astype(np.float32)


def _kl_bits(mean, scale):
  """KL of Gaussians on the grid from the prior, in bits."""
  ratio = scale / CELLS
  nats = -np.log(ratio) + 0.5 * (ratio**2 + (mean / CELLS) ** 2 - 1)
  return nats.sum() / np.log(2)

"""Asymmetric numeral systems in lanes (Duda, 2013; Giesen, 2014): many symbols a step, compiled.

A lane is a state, uint32 in 2^16..2^32-1, which takes one symbol after the other. Lanes side by
side share a stream of 16-bit words: in every step, those that need one take the next ones, in their
order. A symbol is an interval of 0..TOTAL-1, so all is arithmetic of whole numbers. What is put
last is taken first: an encoder goes through the steps backwards.

B images have L lanes and a stream each. Shapes: states uint32 [B, L], words uint32 [B, W].
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from conv_draw.codec.entropy.stream import Undecodable

BITS = 16  # of a word
LOWEST = 2**BITS  # of a state
TOTAL = 2**BITS  # frequencies of a symbol's values add up to this


class Lanes(NamedTuple):
  """Coders of B images."""

  states: np.ndarray  # uint32 [B, L]
  words: np.ndarray  # uint32 [B, W], each below 2^16
  position: np.ndarray  # int32 [B]: taking, of the next word; putting, of the last one


def empty(batch, lanes, most):
  """What nothing has been put to yet; `most` is how many symbols may be put to an image's lanes."""
  return Lanes(jnp.full((batch, lanes), LOWEST, jnp.uint32), jnp.zeros((batch, most), jnp.uint32),
               jnp.full(batch, most, jnp.int32))


def put(lanes, start, frequency, there):
  """Puts a symbol to every lane for which bool [B, L] `there`; start, frequency int32 [B, L]."""
  states, words, position = lanes
  start, frequency = (x.astype(jnp.uint32) for x in (start, jnp.where(there, frequency, 1)))
  full = there & ((states >> BITS) >= frequency)
  # Words are read in the order of lanes, from `position` on.
  position = position - full.sum(1, dtype=jnp.int32)
  place = position[:, None] + full.cumsum(1, dtype=jnp.int32) - 1
  words = words.at[jnp.arange(len(words))[:, None], jnp.where(full, place, words.shape[1])].set(
      states & (LOWEST - 1), mode='drop')
  states = jnp.where(full, states >> BITS, states)
  after = (states // frequency << BITS) + start + states % frequency
  return Lanes(jnp.where(there, after, states), words, position)


def places(lanes):
  """int32 [B, L]: what each lane has next, a number within the interval of its symbol."""
  return (lanes.states & (LOWEST - 1)).astype(jnp.int32)


def take(lanes, start, frequency, there):
  """Undoes `put`, once `places` have told the symbols."""
  states, words, position = lanes
  start, frequency = (x.astype(jnp.uint32) for x in (start, frequency))
  after = frequency * (states >> BITS) + (states & (LOWEST - 1)) - start
  states = jnp.where(there, after, states)
  hungry = there & (states < LOWEST)
  place = position[:, None] + hungry.cumsum(1, dtype=jnp.int32) - 1
  word = jnp.take_along_axis(words, jnp.minimum(place, words.shape[1] - 1), 1)
  states = jnp.where(hungry, states << BITS | word, states)
  return Lanes(states, words, position + hungry.sum(1, dtype=jnp.int32))


def to_bytes(lanes):
  """Of each image what `from_bytes` needs: its states and words, little-endian."""
  states, words, position = (np.asarray(x) for x in lanes)
  return [state.astype('<u4').tobytes() + word[first:].astype('<u2').tobytes()
          for state, word, first in zip(states, words, position, strict=True)]


def from_bytes(data, lanes):
  """Coders to take from, of what `to_bytes` returned. Raises UserError for what it never did."""
  states, words = [], []
  for part in data:
    if len(part) < 4 * lanes or len(part) % 2:
      raise Undecodable(f'{len(part)} bytes are not {lanes} lanes')
    states.append(np.frombuffer(part, '<u4', lanes))
    words.append(np.frombuffer(part, '<u2', offset=4 * lanes))
    if states[-1].min() < LOWEST:
      raise Undecodable('a lane is below its range')
  # Compiled for few lengths; one word more, so that there is one.
  most = max(len(word) for word in words) + 1
  most = 1 << (most - 1).bit_length()
  padded = [np.pad(word.astype(np.uint32), (0, most - len(word))) for word in words]
  return Lanes(jnp.asarray(np.stack(states).astype(np.uint32)), jnp.asarray(np.stack(padded)),
               jnp.zeros(len(data), jnp.int32))


def finish(lanes, data):
  """Raises UserError unless all has been taken that was put."""
  states, _, position = (np.asarray(x) for x in lanes)
  words = [(len(part) - 4 * states.shape[1]) // 2 for part in data]
  if (states != LOWEST).any() or position.tolist() != words:
    raise Undecodable('its lanes do not end where they began')

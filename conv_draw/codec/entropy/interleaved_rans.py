"""Interleaved rANS (Duda, 2013; Giesen, 2014): many symbols a step, compiled.

A coder is a state, uint32 in 2^16..2^32-1, which takes one symbol after the other. L interleaved
coders share a stream of 16-bit words: in every step, the coders that need a word take the next
ones, in their order. A symbol is an interval of 0..TOTAL-1, so all arithmetic is of integers. What
is put last is taken first: an encoder goes through the steps backwards.

B images have L coders and a stream each. Shapes: states uint32 [B, L], words uint32 [B, W].
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from conv_draw.codec.entropy.range_coder import Undecodable

BITS = 16  # of a word
LOWEST = 2**BITS  # of a state
TOTAL = 2**BITS  # frequencies of a symbol's values add up to this


class Rans(NamedTuple):
  """The interleaved coders of B images."""

  states: np.ndarray  # uint32 [B, L]
  words: np.ndarray  # uint32 [B, W], each below 2^16
  position: np.ndarray  # int32 [B]: taking, of the next word; putting, of the last one


def empty(batch, coders, most):
  """`Rans` without symbols, to which at most `most` symbols an image can be put."""
  return Rans(jnp.full((batch, coders), LOWEST, jnp.uint32), jnp.zeros((batch, most), jnp.uint32),
              jnp.full(batch, most, jnp.int32))


def put(rans, start, frequency, there):
  """Puts a symbol to every coder where bool [B, L] `there`; start, frequency int32 [B, L]."""
  states, words, position = rans
  start, frequency = (x.astype(jnp.uint32) for x in (start, jnp.where(there, frequency, 1)))
  full = there & ((states >> BITS) >= frequency)
  # Words are read in the order of coders, from `position` on.
  position = position - full.sum(1, dtype=jnp.int32)
  place = position[:, None] + full.cumsum(1, dtype=jnp.int32) - 1
  words = words.at[jnp.arange(len(words))[:, None], jnp.where(full, place, words.shape[1])].set(
      states & (LOWEST - 1), mode='drop')
  states = jnp.where(full, states >> BITS, states)
  after = (states // frequency << BITS) + start + states % frequency
  return Rans(jnp.where(there, after, states), words, position)


def symbol_points(rans):
  """int32 [B, L]: for each coder, a number within the interval of its next symbol."""
  return (rans.states & (LOWEST - 1)).astype(jnp.int32)


def take(rans, start, frequency, there):
  """Undoes `put`, given the intervals of the symbols that `symbol_points` lie in."""
  states, words, position = rans
  start, frequency = (x.astype(jnp.uint32) for x in (start, frequency))
  after = frequency * (states >> BITS) + (states & (LOWEST - 1)) - start
  states = jnp.where(there, after, states)
  hungry = there & (states < LOWEST)
  place = position[:, None] + hungry.cumsum(1, dtype=jnp.int32) - 1
  word = jnp.take_along_axis(words, jnp.minimum(place, words.shape[1] - 1), 1)
  states = jnp.where(hungry, states << BITS | word, states)
  return Rans(states, words, position + hungry.sum(1, dtype=jnp.int32))


def to_bytes(rans, coders):
  """For each image the bytes that `from_bytes` reads: its states and words, little-endian.

  Args:
    coders: how many of the L are stored, the first ones; the others have put nothing.
  """
  states, words, position = (np.asarray(x) for x in rans)
  return [state[:coders].astype('<u4').tobytes() + word[first:].astype('<u2').tobytes()
          for state, word, first in zip(states, words, position, strict=True)]


def from_bytes(data, coders, most):
  """`Rans` of L = `most` coders to take from, of which the first `coders` are stored.

  `data` is a list of B bytes. Raises UserError for damaged data.
  """
  states, words = [], []
  for part in data:
    if len(part) < 4 * coders or len(part) % 2:
      raise Undecodable(f'{len(part)} bytes are not {coders} coders')
    states.append(np.frombuffer(part, '<u4', coders))
    words.append(np.frombuffer(part, '<u2', offset=4 * coders))
    if states[-1].min() < LOWEST:
      raise Undecodable('a coder is below its range')
  # Compiled for few lengths; one word more, so that there is one.
  length = 1 << max(len(word) for word in words).bit_length()
  padded = [np.pad(word.astype(np.uint32), (0, length - len(word))) for word in words]
  states = np.pad(states, ((0, 0), (0, most - coders)), constant_values=LOWEST)
  return Rans(jnp.asarray(states.astype(np.uint32)), jnp.asarray(np.stack(padded)),
              jnp.zeros(len(data), jnp.int32))


def finish(rans, data, coders):
  """Raises UserError unless everything that was put has been taken."""
  states, _, position = (np.asarray(x) for x in rans)
  words = [(len(part) - 4 * coders) // 2 for part in data]
  if (states != LOWEST).any() or position.tolist() != words:
    raise Undecodable('its coders do not end where they began')

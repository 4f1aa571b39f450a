"""Damaged files, and checks of what is said of them."""

import pytest

from conv_draw.errors import UserError


def one_line(error, *words):
  """Checks that an error is one line that says all of `words`."""
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert str(word) in message, message


def refused(read, data, *words, **options):
  """Checks that reading is refused in one line that says all of `words`."""
  with pytest.raises(UserError) as error:
    read(data, **options)
  one_line(error, *words)


def mutated(rng, data, others):
  """One random change of a file."""
  a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
  other = rng.choice(others)
  kind = rng.randrange(7)
  if kind == 0:  # flipped bits
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
      data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)
  return {
      1: data[:a],
      2: data[:a] + data[b:],
      3: data[:a] + data[b:c] + data[a:b] + data[c:],
      4: data[:a] + rng.randbytes(rng.randrange(20)) + data[a:],
      5: data[:a] + other[rng.choice((a, rng.randrange(len(other)))) :],
      6: data[:a] + other[a:b] + data[b:],
  }[kind]

"""Damaged and forged files through the whole decoder, network and all."""

import resource
import time

import jax
import numpy as np
import pytest

from conv_draw import GaussianPixels
from conv_draw.codec import coder as coder_lib
from conv_draw.codec.format import container
from conv_draw.errors import UserError
from conv_draw.model.conv_draw import ConvDraw
from tests.autoregressive.test_integer_pixels import COLOUR, params_of
from tests.codec.test_exact_everywhere import coder_of

MUTATIONS = 2000
SHAPES = [(16, 12, 3), (16, 12, 1)]


@pytest.fixture(scope='module')
def coder():
  model = ConvDraw(
      channels=3, pixels=GaussianPixels(256), iterations=3, features=4, latents=2,
      posterior='uniform')
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, np.zeros((1, 8, 8, 3), np.uint8))
  params['params']['posterior'] = 20 * params['params']['posterior']
  return coder_lib.Coder(model, params, 'fuzz')


@pytest.fixture(scope='module')
def integer_coder():
  """A model of an integer network, without latents."""
  return coder_of(params_of(COLOUR)['params'])


@pytest.fixture(scope='module')
def files(coder):
  """[(bytes, image, `Encoded`)]: lossless and lossy, of several sizes, whole and in tiles."""
  return files_of(coder, (dict(lossless=True), dict(), dict(lossless=True, tile_side=8)))


@pytest.fixture(scope='module')
def integer_files(integer_coder):
  return files_of(integer_coder, (dict(lossless=True, tile_side=8),))


def files_of(coder, ways):
  made = []
  for i, shape in enumerate(SHAPES):
    image = np.random.default_rng(i).integers(0, 256, shape).astype(np.uint8)
    for options in ways:
      coded = coder.encode(image, **options)
      made.append((coded.data, image, coded))
  return made


def accidents(rng, files):
  """(damaged bytes, the file that they were)."""
  number = rng.integers(len(files))
  data = bytearray(files[number][0])
  other = files[rng.integers(len(files))][0]
  kind = rng.integers(5)
  a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
  if kind == 0:
    for _ in range(rng.integers(1, 4)):
      data[rng.integers(len(data))] ^= 1 << rng.integers(8)
  elif kind == 1:
    del data[a:]
  elif kind == 2:
    data[a:b] = data[a:b][::-1] if rng.random() < 0.5 else b''
  elif kind == 3:
    data[a:b] = rng.bytes(b - a)
  else:  # the head of one file, the tail of another
    data[a:] = other[rng.integers(len(other)) :]
  return bytes(data), number


def forgery(rng, files):
  """A file with valid checksums that no encoder wrote."""
  _, _, coded = files[rng.integers(len(files))]
  _, _, other = files[rng.integers(len(files))]
  header, segments = coded.header, list(coded.segments)
  kind = rng.integers(3)
  if kind == 0:  # absurd dimensions, or another image's
    side = int(rng.choice([1, 500, 65_535]))
    header = header._replace(
        width=side, height=min(side, 2**26 // side), tile_side=int(rng.choice([0, 500])))
  elif kind == 1:
    segments = [
        mine._replace(payload=theirs.payload)
        for mine, theirs in zip(segments, other.segments, strict=False)]
    segments = segments[: rng.integers(1, len(segments) + 1)]
  else:
    at = int(rng.integers(len(segments)))
    payload = bytearray(segments[at].payload or b'\0')
    payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
    segments[at] = segments[at]._replace(payload=bytes(payload))
    segments = segments[: rng.integers(at + 1, len(segments) + 1)]
  return container.write(header, segments)


def test_accidents_give_the_right_image_or_one_error(coder, files):
  check_accidents(coder, files, MUTATIONS)


def test_accidents_to_files_of_whole_numbers(integer_coder, integer_files):
  check_accidents(integer_coder, integer_files, MUTATIONS // 4)


def check_accidents(coder, files, count):
  rng, outcomes = np.random.default_rng(0), {'refused': 0, 'coarser': 0, 'whole': 0}
  coarser = {}  # what the first segments of each file decode to
  for number, (_, _, coded) in enumerate(files):
    for n in range(coder.lossless_only, len(coded.segments) + 1):
      coarser[number, n] = coder.decode(container.write(coded.header, coded.segments[:n]))[0]
  for trial in range(count):
    data, number = accidents(rng, files)
    try:
      image, header, segments = coder.decode(data, partial=trial % 2 == 1)
    except UserError as e:
      assert '\n' not in str(e)
      outcomes['refused'] += 1
      continue
    # What comes out is what the same segments of an undamaged file decode to, perhaps another one.
    same = [n for n, (_, _, coded) in enumerate(files) if coded.header == header
            and coded.segments[: len(segments)] == segments]
    assert same, trial
    np.testing.assert_array_equal(image, coarser[same[0], len(segments)])
    whole = len(segments) == len(files[same[0]][2].segments)
    outcomes['whole' if whole else 'coarser'] += 1
  assert outcomes['refused'] > 0.5 * count, outcomes
  assert coder.lossless_only or outcomes['coarser'] > 0.01 * count, outcomes
  return outcomes


def test_forgeries_end_soon_and_in_little_memory(coder, files):
  check_forgeries(coder, files, 30)


def test_forgeries_of_files_of_whole_numbers(integer_coder, integer_files):
  check_forgeries(integer_coder, integer_files, 30)


def check_forgeries(coder, files, count):
  """Nobody can tell whether their pixels are right; but they must not hang, nor fill memory."""
  rng, outcomes, longest = np.random.default_rng(1), {'refused': 0, 'decoded': 0}, 0.0
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  for _ in range(count):
    data, started = forgery(rng, files), time.monotonic()
    try:
      coder.decode(data)
      outcomes['decoded'] += 1
    except UserError as e:
      assert '\n' not in str(e)
      outcomes['refused'] += 1
    longest = max(longest, time.monotonic() - started)
  assert min(outcomes.values()) > 0, outcomes
  # Mostly the compilation for an image of up to 2^18 pixels; of 2^26, no more than the first tiles.
  assert longest < 60
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # KiB
  return outcomes, longest

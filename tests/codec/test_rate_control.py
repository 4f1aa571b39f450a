"""One file for all rates: cut behind any group, or made to fit."""

import functools
import itertools

import jax
import numpy as np
import pytest
from PIL import Image

from conv_draw.codec import files, network, rate_control, tiling
from conv_draw.codec.coder import Coder
from conv_draw.codec.entropy import range_coder
from conv_draw.codec.entropy.distributions import Uniform
from conv_draw.codec.format import container
from conv_draw.errors import UserError
from conv_draw.quality import psnr_db
from tests.progressive.small import photos, stirred

LMBDA = 2.0


@functools.cache
def coder():
  model, params = stirred()
  return Coder(model.clone(lmbda=LMBDA), params, 'linear')


@functools.cache
def file():
  return coder().encode(photos()[0])


def test_a_cut_file_is_the_picture_of_that_prefix():
  """r_t itself, which is what a progressive model is trained for."""
  model, params = stirred()
  model = model.clone(lmbda=LMBDA)
  reconstruct = jax.jit(functools.partial(model.apply, method='reconstruct'))
  better, at_once = [], coder().decode_prefixes(file().header, file().segments)
  for t in range(1, model.iterations + 1):
    decoded = coder().decode(container.write(file().header, file().segments[:t]))[0]
    canvas = reconstruct(params, jax.random.key(0), photos()[:1], t, 0.0)
    shown = np.rint(255 * np.clip(model.pixels.mean(canvas)[0], 0, 1))
    assert abs(decoded - shown).max() <= 1 and (decoded == shown).mean() > 0.99
    np.testing.assert_array_equal(at_once[t], decoded)
    better.append(psnr_db(photos()[0], decoded))
  assert better == sorted(better)
  np.testing.assert_array_equal(decoded, file().decoded)


def test_a_file_takes_what_the_model_says():
  """Anchor and non-anchor cells, each under its own prior."""
  model, params = stirred()
  inference = jax.jit(model.clone(lmbda=LMBDA).apply)(params, jax.random.key(0), photos()[:1])
  nats = np.asarray(inference.kl_nats).sum((1, 2))
  taken = 8 * sum(len(segment.payload) for segment in file().segments)
  assert 0.97 < taken / (nats.sum() / np.log(2)) < 1.05 + 24 * len(nats) / nats.sum()


def test_an_image_of_one_cell_has_no_second_pass():
  small = photos()[0][:3, :2]
  coded = coder().encode(small)
  np.testing.assert_array_equal(coder().decode(coded.data)[0], coded.decoded)


def test_only_latents_that_an_iteration_has_are_coded():
  model, params = stirred()
  worth = np.array(params['params']['linear_worth'])
  worth[3, 2:] = 0
  change = Coder(model.clone(lmbda=LMBDA), {
      'params': {**params['params'], 'linear_worth': worth}}, 'fewer')
  coded = change.encode(photos()[0])
  assert len(coded.segments[3].payload) < 0.9 * len(file().segments[3].payload)
  np.testing.assert_array_equal(change.decode(coded.data)[0], coded.decoded)
  made = change._network(photos()[0].shape[:2], 1)
  cells = np.prod(made.shapes[0][:2])
  parts = [np.concatenate(made.coding_passes(0, t)) for t in range(model.iterations)]
  assert len(parts[3]) == 2 * cells and len(parts[4]) == cells * np.count_nonzero(worth[4])
  # In turn, all cells come once.
  assert sum(map(len, parts[:3])) == cells * np.count_nonzero(worth[0])


def offset_of(coded):
  reader = range_coder.Reader(coded.segments[0].payload)
  return network.OFFSETS[int(reader.decode(1, Uniform(len(network.OFFSETS)))[0])]


@pytest.mark.parametrize('share', [0.35, 0.6, 0.9])
def test_a_rate_is_met(share):
  limit = 8 * len(file().data) / photos()[0].size * share
  coded = coder().encode(photos()[0], bits_per_dim=limit)
  rate = 8 * len(coded.data) / photos()[0].size
  byte = 8 / photos()[0].size
  fewer = coder().encode(photos()[0], groups=len(coded.segments) - 1, qp_offset=offset_of(coded))
  assert psnr_db(photos()[0], coded.decoded) >= psnr_db(photos()[0], fewer.decoded)
  # At the finest offset, one group more may be worse than a rate that is not used up.
  assert limit * 0.95 - 3 * byte <= rate <= limit or offset_of(coded) == network.OFFSETS[0]
  assert rate <= limit
  np.testing.assert_array_equal(coder().decode(coded.data)[0], coded.decoded)


def test_a_quality_is_met_by_as_few_groups_as_possible():
  coded = coder().encode(photos()[0], psnr=24, qp_offset=0)
  fewer = coder().encode(photos()[0], groups=len(coded.segments) - 1)
  assert psnr_db(photos()[0], coded.decoded) >= 24 > psnr_db(photos()[0], fewer.decoded)
  assert coder().encode(photos()[0], psnr=99, qp_offset=0).data == file().data
  best = coder().encode(photos()[0], psnr=24)
  assert psnr_db(photos()[0], best.decoded) >= 24 and len(best.data) <= len(coded.data)
  with pytest.raises(UserError, match='decides by itself'):
    coder().encode(photos()[0], psnr=30, groups=2)


def test_a_quality_is_met_by_all_tiles_together(monkeypatch):
  monkeypatch.setattr(tiling, 'max_pixels', lambda stride: 64)  # one tile at a time
  whole = coder().encode(photos()[0], tile_side=8)
  wanted = psnr_db(photos()[0], coder().decode_prefixes(whole.header, whole.segments)[2])
  coded = coder().encode(photos()[0], tile_side=8, psnr=wanted, qp_offset=0)
  assert coded.segments == whole.segments[:2]


def test_without_a_limit_the_command_stores_a_usual_quality(tmp_path, monkeypatch):
  """And `Coder.encode` all groups."""
  monkeypatch.setattr(Coder, 'load', lambda workdir: coder())
  monkeypatch.setattr(rate_control, 'DEFAULT_PSNR', 24.0)
  Image.fromarray(photos()[0]).save(tmp_path / 'a.png')
  usual = coder().encode(photos()[0], psnr=24.0, qp_offset=0)
  assert len(usual.segments) < len(file().segments)
  for limits, data in ((dict(), usual.data), (dict(groups=len(file().segments)), file().data)):
    list(files.encode(tmp_path / 'a.png', tmp_path / 'a', 'linear', overwrite=True, **limits))
    assert (tmp_path / 'a').read_bytes() == data


def test_a_model_of_squared_errors_codes_no_pixels():
  with pytest.raises(UserError, match='lossy files alone'):
    coder().encode(photos()[0], lossless=True)


def test_what_does_not_fit_is_left_out():
  for size, sizes, count in ((35, [10, 10, 20, 5], 2), (5, [10, 10], 1), (50, [10, 10, 20, 5], 4),
                             (50, [], 1)):
    assert rate_control.fitting(size, sum, sizes) == count
  for rate in (0.01, 0.0):
    with pytest.raises(UserError, match='takes 0.* bits/dim with its first group'):
      coder().encode(photos()[0], bits_per_dim=rate)


@functools.cache
def finest():
  return coder().encode(photos()[0], qp_offset=-8)


@pytest.mark.parametrize('qp_offset', [8, 24, 63])
def test_a_larger_offset_is_a_smaller_file_of_the_same_image(qp_offset):
  coded = coder().encode(photos()[0], qp_offset=qp_offset)
  assert len(coded.data) < len(file().data) < len(finest().data)
  np.testing.assert_array_equal(coder().decode(coded.data)[0], coded.decoded)
  *_, last = coder().decode_prefixes(coded.header, coded.segments)
  np.testing.assert_array_equal(last, coded.decoded)
  assert psnr_db(photos()[0], file().decoded) > psnr_db(photos()[0], coded.decoded) > 18
  # The mean is that of the image: what was taken from the contrast is given back.
  assert abs(coded.decoded.mean() - photos()[0].mean()) < 4
  assert coded.decoded.std() > 0.9 * photos()[0].std()


GROUPS = 6
EVERYTHING = list(itertools.product(range(1, GROUPS + 1), network.OFFSETS))
encodings = []  # (how many groups, qp_offset) of a search


def size(count, qp_offset):
  """Of so many groups, in bytes: a group doubles it, an offset of 64 takes two thirds off."""
  return 100 * 2**count * 3 ** (-qp_offset / 64)


def quality(count, qp_offset):
  """In dB: six of a group, ten of an offset of 64; and an even number of groups is worse by one."""
  return 20 + 6 * count - 10 * qp_offset / 64 - (count % 2 == 0)


def search(**wanted):
  """(qp_offset, how many groups) that `rate_control.search` takes."""
  encodings.clear()

  def encode(count, qp_offset, optimisation):
    assert optimisation is None
    encodings.append((count, qp_offset))
    return [qp_offset] * count

  def psnrs(segments, counts):
    return [quality(count, segments[0]) for count in counts]

  def encode_measured(*settings):
    segments = encode(*settings[:3])
    return segments, psnrs(segments, settings[3])

  found, segments = rate_control.search(
      rate_control.Target(GROUPS, **wanted), rate_control.Trials(
          encode, encode_measured, psnrs,
          lambda segments: size(len(segments), segments[0]) if segments else 25))
  assert set(segments) == {found}
  return found, len(segments)


@pytest.mark.parametrize('limit', [90, 240, 300, 1000, 1900, 3333, 5000, 6300, 7200])
def test_the_best_picture_of_a_size_is_found(limit):
  qp_offset, count = search(limit=limit)
  best = max(quality(*one) for one in EVERYTHING if size(*one) <= limit)
  # Beyond the last of `CONTRASTS` nothing is looked for.
  assert size(count, qp_offset) <= limit
  assert quality(count, qp_offset) > best - (0.7 if limit == 300 else 0.3)
  finer = (count, qp_offset - 1)
  assert qp_offset == network.OFFSETS[0] or size(*finer) > limit
  assert len(encodings) <= len(rate_control.COARSE_OFFSETS) + rate_control.HALVINGS
  assert all(qp_offset in network.OFFSETS for _, qp_offset in encodings)


@pytest.mark.parametrize('psnr', [20, 25, 31, 36, 41, 50, 55])
def test_the_smallest_file_of_a_quality_is_found(psnr):
  qp_offset, count = search(psnr=psnr)
  least = min(size(*one) for one in EVERYTHING if quality(*one) >= psnr)
  assert quality(count, qp_offset) >= psnr and size(count, qp_offset) < 1.1 * least
  assert len(encodings) <= len(rate_control.COARSE_OFFSETS) + rate_control.HALVINGS


def test_what_cannot_be_met_is_met_as_nearly_as_possible():
  for limit in (60, 1e-300, 0.0):
    assert search(limit=limit) == (63, 1)
  assert search(psnr=99) == (-8, GROUPS)
  assert search(limit=1e6) == (-8, GROUPS)
  assert rate_control.enough(21, [20, 22, 30]) == 2 and rate_control.enough(99, [10, 20]) == 2


@pytest.mark.parametrize('wanted', [{}, {'bits_per_dim': 1.5}, {'psnr': 20.0}])
def test_progress_goes_up_to_all(wanted):
  said = []
  coded = coder().encode(photos()[0], progress=lambda done, total: said.append(done / total),
                         tile_side=8, **wanted)
  assert said == sorted(said) and said[-1] == 1 and len(said) > 7
  said.clear()
  coder().decode(coded.data, progress=lambda done, total: said.append(done / total))
  assert said == sorted(said) and said[-1] == 1 and said[0] < 0.3

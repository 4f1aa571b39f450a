"""One file for all rates: cut behind any group, or made to fit."""

import functools

import jax
import numpy as np
import pytest

from conv_draw.codec import rates
from conv_draw.codec.coder import Coder
from conv_draw.codec.format import container
from conv_draw.errors import UserError
from conv_draw.report.pictures import psnr_db
from tests.model.test_linear_paths import photos, stirred

PRICE = 2.0


@functools.cache
def coder():
  model, params = stirred()
  return Coder(model.clone(price=PRICE), params, 'linear')


@functools.cache
def file():
  return coder().encode(photos()[0])


def test_a_cut_file_is_the_picture_of_that_prefix():
  """r_t itself, which is what a progressive model is trained for."""
  model, params = stirred()
  model = model.clone(price=PRICE)
  reconstruct = jax.jit(functools.partial(model.apply, method='reconstruct'))
  better, at_once = [], coder().decode_prefixes(file())
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
  """Both halves of the cells, each under the prior that it has."""
  model, params = stirred()
  inference = jax.jit(model.clone(price=PRICE).apply)(params, jax.random.key(0), photos()[:1])
  bits = coder().encode(photos()[0], measure=True).promised_bits
  nats = np.asarray(inference.kl_nats).sum((1, 2))
  np.testing.assert_allclose(bits.sum(), nats.sum() / np.log(2), rtol=0.03)
  taken = 8 * sum(len(segment.payload) for segment in file().segments)
  assert taken < 1.05 * bits.sum() + 24 * len(bits)


def test_an_image_of_one_cell_has_no_second_half():
  small = photos()[0][:3, :2]
  coded = coder().encode(small)
  np.testing.assert_array_equal(coder().decode(coded.data)[0], coded.decoded)


def test_only_latents_that_an_iteration_has_are_coded():
  model, params = stirred()
  worth = np.array(params['params']['linear_worth'])
  worth[3, 2:] = 0
  change = Coder(model.clone(price=PRICE), {
      'params': {**params['params'], 'linear_worth': worth}}, 'fewer')
  coded = change.encode(photos()[0])
  assert len(coded.segments[3].payload) < 0.9 * len(file().segments[3].payload)
  np.testing.assert_array_equal(change.decode(coded.data)[0], coded.decoded)
  network = change._network(photos()[0].shape[:2], 1)
  cells = np.prod(network.shapes[0][:2])
  parts = [np.concatenate(network.parts(0, t)) for t in range(model.iterations)]
  assert len(parts[3]) == 2 * cells and len(parts[4]) == cells * np.count_nonzero(worth[4])
  # In turn, all cells come once.
  assert sum(map(len, parts[:3])) == cells * np.count_nonzero(worth[0])


@pytest.mark.parametrize('share', [0.35, 0.6, 0.9])
def test_a_rate_is_met(share):
  limit = 8 * len(file().data) / photos()[0].size * share
  coded = coder().encode(photos()[0], bits_per_dim=limit)
  rate = 8 * len(coded.data) / photos()[0].size
  byte = 8 / photos()[0].size
  assert limit * 0.93 - 3 * byte <= rate <= limit
  np.testing.assert_array_equal(coder().decode(coded.data)[0], coded.decoded)


def test_a_quality_is_met_by_as_few_groups_as_possible():
  coded = coder().encode(photos()[0], psnr=24)
  fewer = coder().encode(photos()[0], groups=len(coded.segments) - 1)
  assert psnr_db(photos()[0], coded.decoded) >= 24 > psnr_db(photos()[0], fewer.decoded)
  assert coder().encode(photos()[0], psnr=99).data == file().data
  with pytest.raises(UserError, match='decides by itself'):
    coder().encode(photos()[0], psnr=30, groups=2)


def test_a_model_of_squared_errors_codes_no_pixels():
  with pytest.raises(UserError, match='lossy files alone'):
    coder().encode(photos()[0], lossless=True)


def test_what_does_not_fit_is_left_out_where_there_is_no_price():
  sizes = lambda segments: sum(segments)
  assert rates.within(35, sizes, [10, 10, 20, 5], None, 0.0) == [10, 10]
  assert rates.within(5, sizes, [10, 10], None, 0.0) == [10]
  assert rates.within(50, sizes, [10, 10, 20, 5], None, 6.0) == [10, 10, 20, 5]
  of = lambda count, price: [10, 10, 20, 5][: count - 1] + [20 * price / 6]
  found = rates.within(35, sizes, [10, 10, 20, 5], of, 6.0)
  assert len(found) == 3 and 34 < sum(found) <= 35

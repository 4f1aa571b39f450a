"""Effort: latents that suit an image better, for decoders that know nothing of it."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.codec import refining
from conv_draw.codec.coder import Coder
from conv_draw.errors import UserError
from conv_draw.report.pictures import psnr_db
from tests.codec.test_rates import LMBDA, coder
from tests.progressive.small import photos, stirred

GROUPS = 4  # what is compiled is for so many, so everything here has as many


@functools.cache
def encoded(effort, **wanted):
  return coder().encode(photos()[0], effort=effort, measure=True, **wanted)


def cost(coded):
  """Of prefix n of all that is stored: what training minimises, in nats."""
  model, params = stirred()
  prepared = model.apply(params, photos().shape[1:3], method='prepare')
  price = float(refining._lagrangian(prepared, len(coded.segments)))
  error = ((coded.decoded.astype(float) - photos()[0]) ** 2).sum() / 255**2
  return coded.promised_bits.sum() * np.log(2) + price * error


def test_the_same_groups_cost_less_the_more_effort_there_is():
  costs = [cost(encoded(effort, groups=GROUPS)) for effort in range(len(refining.STEPS))]
  assert costs[0] > 1.005 * costs[1] and costs[1] >= costs[2]
  for effort in (1, 2):
    coded = encoded(effort, groups=GROUPS)
    assert len(coded.segments) == GROUPS
    np.testing.assert_array_equal(coder().decode(coded.data)[0], coded.decoded)


def test_a_rate_is_met_with_a_better_picture():
  limit = 8 * len(encoded(0).data) / photos()[0].size * 0.6
  plain, refined = (encoded(effort, bits_per_dim=limit) for effort in (0, 1))
  assert 8 * len(refined.data) / photos()[0].size <= limit
  qualities = [psnr_db(photos()[0], coded.decoded) for coded in (plain, refined)]
  assert qualities[0] < qualities[1]
  assert len(plain.segments) == len(refined.segments) == GROUPS


def test_a_quality_is_met_by_a_smaller_file():
  plain, refined = (encoded(effort, psnr=26) for effort in (0, 2))
  assert psnr_db(photos()[0], refined.decoded) >= 26
  assert len(refined.data) < len(plain.data)
  assert len(plain.segments) == len(refined.segments) == GROUPS


def test_costs_are_those_of_the_file():
  """What is minimised is what the decoder will see: by cell, of all cells, in less contrast too."""
  model, params = stirred()
  model, contrast = model.clone(lmbda=LMBDA), 8
  scale = np.float32(3 ** (-contrast / 64))
  coded = coder().encode(photos()[0], groups=GROUPS, contrast=contrast, measure=True)
  network = coder()._network(photos()[0].shape[:2], 1)
  seen = network.observe(photos()[:1], contrast)
  none = jnp.zeros((GROUPS, 1, *network.shapes[0]))
  prepared = network.prepared
  nats, error = refining._costs(model, prepared, seen, scale, none)
  assert nats.shape == error.shape == (1, *network.shapes[0][:2])
  np.testing.assert_allclose(
      nats.sum(), coded.promised_bits.sum() * np.log(2), rtol=0.03)  # corrections come on top
  squares = ((coded.decoded.astype(float) - photos()[0]) ** 2).sum() / 255**2 * scale**2
  np.testing.assert_allclose(
      error.sum(), refining._lagrangian(prepared, GROUPS) * squares, rtol=0.02)  # rounded pixels


def test_nothing_stored_is_not_refined():
  assert encoded(1, groups=0).data == encoded(0, groups=0).data


def test_progress_is_told_while_latents_are_refined():
  told = []
  coder().encode(
      photos()[0], groups=GROUPS, effort=1, progress=lambda done, total: told.append(done / total))
  assert told == sorted(told) and told[-1] == 1 and len(set(told)) > refining.STEPS[1]


def test_other_models_are_not_refined():
  model, params = stirred()
  with pytest.raises(UserError, match='lmbda'):
    Coder(model, params, 'linear').encode(photos()[0], effort=1)
  assert refining.refines(model.clone(lmbda=LMBDA)) and not refining.refines(model)

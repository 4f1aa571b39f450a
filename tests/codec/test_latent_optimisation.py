"""Effort: better latents for an image, for decoders that know nothing of it."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.codec import latent_optimisation as optimisation
from conv_draw.codec.coder import Coder
from conv_draw.errors import UserError
from conv_draw.quality import psnr_db
from tests.codec.test_rate_control import LMBDA, coder
from tests.progressive.small import photos, stirred

GROUPS = 4  # what is compiled is for so many, so everything here has as many


@functools.cache
def encoded(effort, **wanted):
  return coder().encode(photos()[0], effort=effort, **wanted)


def file_bits(coded):
  """Of the latents, less what ends a stream."""
  return sum(8 * len(segment.payload) - 12 for segment in coded.segments)


def cost(coded):
  """What training minimises at the truncation point of a file, in nats."""
  model, params = stirred()
  prepared = model.apply(params, photos().shape[1:3], method='prepare')
  lagrangian = float(optimisation._lagrangian(prepared, len(coded.segments)))
  error = ((coded.decoded.astype(float) - photos()[0]) ** 2).sum() / 255**2
  return file_bits(coded) * np.log(2) + lagrangian * error


def test_the_same_groups_cost_less_the_more_effort_there_is():
  costs = [cost(encoded(effort, groups=GROUPS)) for effort in range(len(optimisation.UPDATES))]
  assert costs[0] > 1.005 * costs[1] and costs[1] >= costs[2]
  for effort in (1, 2):
    coded = encoded(effort, groups=GROUPS)
    assert len(coded.segments) == GROUPS
    np.testing.assert_array_equal(coder().decode(coded.data)[0], coded.decoded)


def test_a_rate_is_met_with_a_better_picture():
  limit = 8 * len(encoded(0).data) / photos()[0].size * 0.6
  plain, optimised = (encoded(effort, bits_per_dim=limit) for effort in (0, 1))
  assert 8 * len(optimised.data) / photos()[0].size <= limit
  qualities = [psnr_db(photos()[0], coded.decoded) for coded in (plain, optimised)]
  assert qualities[0] < qualities[1]
  assert len(plain.segments) == len(optimised.segments) == GROUPS


def test_a_quality_is_met_by_a_smaller_file():
  plain, optimised = (encoded(effort, psnr=26) for effort in (0, 2))
  assert psnr_db(photos()[0], optimised.decoded) >= 26
  assert len(optimised.data) < len(plain.data)
  assert len(plain.segments) == len(optimised.segments) == GROUPS


def test_costs_are_those_of_the_file():
  """The costs by cell add up to those of the decoded file, at an offset too."""
  model, params = stirred()
  model, qp_offset = model.clone(lmbda=LMBDA), 8
  scale = np.float32(3 ** (-qp_offset / 64))
  coded = coder().encode(photos()[0], groups=GROUPS, qp_offset=qp_offset)
  network = coder()._network(photos()[0].shape[:2], 1)
  observed = network.observe(photos()[:1], qp_offset)
  none = jnp.zeros((GROUPS, 1, *network.shapes[0]))
  prepared = network.prepared
  nats, error = optimisation._costs(model, prepared, observed, scale, none)
  assert nats.shape == error.shape == (1, *network.shapes[0][:2])
  np.testing.assert_allclose(
      nats.sum(), file_bits(coded) * np.log(2), rtol=0.05)  # with side information
  squares = ((coded.decoded.astype(float) - photos()[0]) ** 2).sum() / 255**2 * scale**2
  np.testing.assert_allclose(
      error.sum(), optimisation._lagrangian(prepared, GROUPS) * squares,
      rtol=0.02)  # of rounded pixels


def test_nothing_stored_is_not_optimised():
  assert encoded(1, groups=0).data == encoded(0, groups=0).data


def test_progress_goes_up_while_latents_are_optimised():
  shown = []
  coder().encode(
      photos()[0], groups=GROUPS, effort=1, progress=lambda done, total: shown.append(done / total))
  assert shown == sorted(shown) and shown[-1] == 1 and len(set(shown)) > optimisation.UPDATES[1]


def test_other_models_are_not_optimised():
  model, params = stirred()
  with pytest.raises(UserError, match='lmbda'):
    Coder(model, params, 'linear').encode(photos()[0], effort=1)
  assert optimisation.supports(model.clone(lmbda=LMBDA)) and not optimisation.supports(model)

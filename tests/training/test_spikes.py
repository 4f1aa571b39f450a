import math
import random
import types

import pytest

from conv_draw.errors import UserError
from conv_draw.training import spikes

CONFIG = types.SimpleNamespace(window=50, threshold=10.0, trust_after=10, max_reverts=3)


def healthy(n=100, level=80.0, noise=2.0):
  health, source = spikes.Health(), random.Random(0)
  for step in range(n):
    loss = level + source.gauss(0, noise)
    assert not spikes.is_spike(health, loss, CONFIG)
    spikes.record_healthy(health, step, loss, CONFIG)
  return health


def test_noise_is_healthy_and_jumps_are_not():
  health = healthy()
  assert spikes.is_spike(health, 160.0, CONFIG)
  assert not spikes.is_spike(health, 84.0, CONFIG)
  assert not spikes.is_spike(health, 1.0, CONFIG)  # a loss that falls is welcome


@pytest.mark.parametrize('loss', [math.nan, math.inf, -math.inf])
def test_non_finite_is_a_spike_from_the_first_step(loss):
  assert spikes.is_spike(spikes.Health(), loss, CONFIG)


def test_a_few_losses_say_nothing_of_the_level():
  health = spikes.Health(losses=[100.0] * (spikes.MIN_LOSSES - 1))
  assert not spikes.is_spike(health, 1e6, CONFIG)


def test_constant_losses_do_not_make_ripples_spikes():
  health = spikes.Health(losses=[50.0] * 50)
  assert not spikes.is_spike(health, 50.5, CONFIG)
  assert spikes.is_spike(health, 65.0, CONFIG)


def test_one_outlier_in_the_window_does_not_hide_the_next():
  health = healthy()
  health.losses[10] = 1e9
  assert spikes.is_spike(health, 160.0, CONFIG)


def test_window_keeps_the_newest_losses():
  health = spikes.Health()
  for step in range(70):
    spikes.record_healthy(health, step, float(step), CONFIG)
  assert health.losses == [float(s) for s in range(20, 70)]


def test_only_checkpoints_with_later_healthy_losses_are_trusted():
  assert spikes.newest_trusted([0, 80, 90, 100], 100, CONFIG) == 90
  assert spikes.newest_trusted([0, 80, 90, 100], 99, CONFIG) == 80
  assert spikes.newest_trusted([0, 5], 9, CONFIG) == 0


@pytest.mark.parametrize('every', [1, 3, 10, 1000])
def test_a_trusted_checkpoint_is_always_kept(every):
  keep = spikes.checkpoints_to_keep(every, CONFIG)
  for step in range(1, 60):
    saved = [s for s in range(0, step + 1, every)][-keep:]
    trusted = spikes.newest_trusted(saved, step, CONFIG)
    assert trusted == 0 or trusted + CONFIG.trust_after <= step


def test_reverts_without_progress_end_the_run_and_progress_forgives():
  health = spikes.Health()
  for _ in range(3):
    spikes.record_revert(health, 100, CONFIG)
    spikes.record_healthy(health, 95, 1.0, CONFIG)  # before the spike: no progress
  spikes.record_healthy(health, 101, 1.0, CONFIG)
  for step in (150, 149, 148):
    spikes.record_revert(health, step, CONFIG)
  with pytest.raises(UserError, match='150.*learning_rate'):
    spikes.record_revert(health, 150, CONFIG)

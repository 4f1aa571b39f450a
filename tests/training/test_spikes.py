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
  assert spikes.newest_trusted([0, 80, 90, 100], 100, 10) == 90
  assert spikes.newest_trusted([0, 80, 90, 100], 99, 10) == 80
  assert spikes.newest_trusted([0, 5], 9, 10) == 0


def test_spikes_that_show_late_put_off_trust():
  assert [spikes.losses_in_mean(b) for b in (1, 2, 3, 8, 15, 16, 64)] == [16, 8, 6, 2, 2, 1, 1]
  assert spikes.trust_after(CONFIG, 1) == 10 and spikes.trust_after(CONFIG, 16) == 25


def test_checkpoints_saved_on_sigterm_do_not_use_up_the_places():
  saved = [0, 900, 1000]
  for step in (1010, 1020, 1030):
    assert spikes.no_longer_needed(saved, step, 50) == []
    saved.append(step)
  assert spikes.newest_trusted(saved, 1040, 50) == 900
  assert spikes.no_longer_needed(saved, 1060, 50) == [0, 900]


@pytest.mark.parametrize('chance', range(60))
def test_after_any_schedule_there_is_a_sound_checkpoint_to_go_back_to(chance):
  """Regular saves, saves on SIGTERM, kills and spikes, at random.

  An update may make the parameters bad, which shows only up to `trust_after` losses later.
  """
  source = random.Random(chance)
  every, trust_after = source.choice([1, 3, 10, 40, 200]), source.choice([0, 1, 7, 50])
  events = {kind: source.choice([0, 0.002, 0.02, 0.2]) for kind in ('sigterm', 'kill', 'bad')}
  saved, step, bad = {0: True}, 0, None  # step -> sound; the step at which `bad` shows
  most_between = reverts = 0
  while step < 1500 and reverts < 300:
    # The loss of this step, then its update.
    if step == bad:
      target = spikes.newest_trusted(list(saved), step, trust_after)
      assert saved[target], (target, step, saved)
      saved = {c: sound for c, sound in saved.items() if c <= target}
      step, bad, reverts = target, None, reverts + 1
      continue
    if bad is None and source.random() < events['bad']:
      bad = step + 1 + (source.randrange(trust_after) if trust_after else 0)
    step += 1
    stopping = source.random() < events['sigterm']
    if step % every == 0 or stopping:
      if trust_after == 0 and step == bad:
        continue  # asked for no proof: nothing is promised
      for old in spikes.no_longer_needed(list(saved), step, trust_after):
        del saved[old]
      saved[step] = bad is None
      regular = [c for c in saved if c % every == 0]
      most_between = max(most_between, len(saved) - len(regular))
      assert len(saved) <= max(1, trust_after) + 2, (saved, step)
      assert len(regular) <= max(1, -(-trust_after // every)) + 2, (saved, step)
    if source.random() < events['kill']:
      newest = max(saved)  # what came after is lost, and done again
      if newest < step and bad is not None and saved[newest]:
        bad = None
      step = newest
  assert reverts or not events['bad'] or every == 200
  assert most_between or not events['sigterm'] or every == 1 or trust_after == 0


def test_reverts_without_progress_end_the_run_and_progress_forgives():
  health = spikes.Health()
  for _ in range(3):
    spikes.record_revert(health, 100, CONFIG)
    spikes.record_healthy(health, 95, 1.0, CONFIG)  # before the spike: no progress
  spikes.record_healthy(health, 103, 1.0, CONFIG)  # the last attempt is judged by means of four
  assert health.reverts_in_a_row == 3
  spikes.record_healthy(health, 104, 1.0, CONFIG)
  assert health.reverts_in_a_row == 0
  for step in (150, 149, 148):
    spikes.record_revert(health, step, CONFIG)
  with pytest.raises(UserError, match='150.*learning_rate'):
    spikes.record_revert(health, 150, CONFIG)

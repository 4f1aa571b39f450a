"""Host-side decisions about a run's health; section 4 of the paper, "the cost occasionally
increased dramatically during training". No arrays, no files: the loop acts on what is said here.
"""

import dataclasses
import math
import statistics

from conv_draw.errors import UserError

# A median of fewer losses says little; until then only a non-finite loss is a spike.
MIN_LOSSES = 20
# Losses that hardly vary would make every ripple a spike: the scale is at least this part of them.
MIN_RELATIVE_SCALE = 0.02
# Losses of few images have heavy tails (single digits reach 46 robust deviations, 0.4 % lie above
# ten; means of 16 do not): what is compared are means of at least so many images.
MIN_IMAGES = 16
# Means kept for comparison, at least, in multiples of their own length.
LENGTHS_KEPT = 20
# The spike that ends a run must be a level that stays: most of so many lengths of means.
PATIENCE = 4


@dataclasses.dataclass
class Health:
  """What has been seen of the losses; saved with every checkpoint, restored with it."""

  losses: list = dataclasses.field(default_factory=list)  # the last healthy ones, oldest first
  furthest: int = -1  # the latest step that spiked
  reverts_in_a_row: int = 0  # since the run last went beyond `furthest`


def losses_in_mean(batch_size):
  """How many losses in a row are averaged before they are compared."""
  return -(-MIN_IMAGES // batch_size)


def is_spike(health, loss, config, n=1):
  """Whether a loss is non-finite, or lifts the mean of the last `n` far above their recent level.

  The level is the median of the means of n healthy losses in a row, the scale 1.4826 times their
  median absolute deviation (a standard deviation, for Gaussian noise).

  Args:
    n: `losses_in_mean`.
  """
  if not math.isfinite(loss):
    return True
  seen = len(health.losses)
  if seen < (min(MIN_LOSSES, config.window) if n == 1 else max(MIN_LOSSES, 2 * n)):
    return False
  means = [sum(health.losses[i : i + n]) / n for i in range(seen - n + 1)]
  recent = [sum([*health.losses[seen - n + 1 :], loss]) / n]
  split = len(means) + 1 - PATIENCE * n
  if _last_attempt(health, config) and split >= n:
    means, recent = means[:split], [*means[split:], *recent]
  level = statistics.median(means)
  scale = 1.4826 * statistics.median(abs(value - level) for value in means)
  limit = level + config.threshold * max(scale, MIN_RELATIVE_SCALE * abs(level))
  return recent[-1] > limit and 2 * sum(mean > limit for mean in recent) > len(recent)


def _last_attempt(health, config):
  """Whether the next spike ends the run: noise must not, however heavy its tails."""
  return 0 < config.max_reverts <= health.reverts_in_a_row


def record_healthy(health, step, loss, config, n=1):
  """Adds the healthy loss measured at `step`."""
  kept = config.window if n == 1 else max(config.window, LENGTHS_KEPT * n)
  health.losses = [*health.losses, loss][-kept:]
  # A spike may show up to n - 1 steps late: only then is the run beyond it.
  late = n * (PATIENCE if _last_attempt(health, config) else 1)
  if step >= health.furthest + late:
    health.reverts_in_a_row = 0


def record_revert(health, step, config):
  """Counts the revert of a spike at `step`.

  Raises:
    UserError: too many in a row without the run getting beyond the latest of them.
  """
  health.furthest = max(health.furthest, step)
  health.reverts_in_a_row += 1
  if health.reverts_in_a_row > config.max_reverts:
    raise UserError(
        f'training diverges: {config.max_reverts} reverts in a row did not get past step '
        f'{health.furthest}; continue with a lower --config.train.learning_rate or with '
        '--config.train.clip_norm=1')


def trust_after(config, n=1):
  """Healthy losses after which a checkpoint is trusted.

  Args:
    n: `losses_in_mean`: the last n - 1 losses have not been seen to be healthy yet.
  """
  return config.trust_after + n - 1


def newest_trusted(checkpoints, step, trust_after):
  """The checkpoint to return to when `step` spikes.

  A loss is measured before its update, so a checkpoint shows that it is sound only through later
  losses: `trust_after` healthy ones. Step 0, untouched by any update, needs no proof.

  Args:
    checkpoints: steps that have one.
  Returns:
    The newest trusted step; else the oldest there is: `no_longer_needed` names only those that are
    older than one that was trusted, so the oldest was trusted once, before a revert.
  """
  trusted = [c for c in checkpoints if c == 0 or c + trust_after <= step]
  return max(trusted, default=min(checkpoints))


def no_longer_needed(checkpoints, step, trust_after):
  """The checkpoints that may go when all losses before `step` were healthy.

  The two newest of those that are trusted stay, the second in case the first is damaged, and all
  that are newer: with the one that is saved then at most ceil(trust_after / every) + 2 (but 3 at
  least) with one every so many steps. Those saved on SIGTERM in the last `trust_after` steps are
  more, up to one for each of these steps: trust_after + 2 in all.
  """
  trusted = sorted(c for c in checkpoints if c == 0 or c + trust_after <= step)
  return trusted[:-2]

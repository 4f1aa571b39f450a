"""Detection of loss spikes, and which checkpoints are validated; pure Python, without arrays.

Section 4 of the paper: "the cost occasionally increased dramatically during training".
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable

from ml_collections import config_dict

from conv_draw.errors import UserError

# With fewer losses than this the median is unreliable: only a non-finite loss is a spike.
MIN_LOSSES = 20
# Lower bound of the scale relative to the level, for losses that hardly vary.
MIN_RELATIVE_SCALE = 0.02
# Losses of few images have heavy tails (for single digits, 0.4 % lie more than ten robust
# deviations above the median, and some 46; for means of 16 images, none): the monitor compares
# means over at least this many images.
MIN_IMAGES = 16
# The number of means kept for comparison is at least this multiple of their length.
LENGTHS_KEPT = 20
# Before a spike ends the run, the loss must stay high for this many lengths of the means.
PATIENCE = 4


@dataclasses.dataclass
class LossMonitor:
  """The recent losses of a run and its reverts; saved and restored with every checkpoint.

  Methods read the settings `config.spikes` and `config.train.batch_size`.
  """

  losses: list[float] = dataclasses.field(default_factory=list)  # recent healthy ones, oldest first
  furthest: int = -1  # the latest step that spiked
  reverts_in_a_row: int = 0  # since the run last got past `furthest`

  def is_spike(self, loss: float, config: config_dict.ConfigDict) -> bool:
    """Whether a loss is non-finite, or raises the mean of the last n far above their recent level.

    n is `losses_in_mean`. The level is the median of the means of n consecutive healthy losses; the
    scale is 1.4826 times their median absolute deviation (the standard deviation, for Gaussian
    noise).
    """
    if not math.isfinite(loss):
      return True
    s, n, seen = config.spikes, losses_in_mean(config), len(self.losses)
    if seen < (min(MIN_LOSSES, s.window) if n == 1 else max(MIN_LOSSES, 2 * n)):
      return False
    means = [sum(self.losses[i : i + n]) / n for i in range(seen - n + 1)]
    recent = [sum([*self.losses[seen - n + 1 :], loss]) / n]
    split = len(means) + 1 - PATIENCE * n
    if self._is_last_attempt(config) and split >= n:
      means, recent = means[:split], [*means[split:], *recent]
    level = statistics.median(means)
    scale = 1.4826 * statistics.median(abs(value - level) for value in means)
    limit = level + s.threshold * max(scale, MIN_RELATIVE_SCALE * abs(level))
    return recent[-1] > limit and 2 * sum(mean > limit for mean in recent) > len(recent)

  def _is_last_attempt(self, config):
    """Whether the next spike ends the run; `is_spike` then asks for more evidence."""
    return 0 < config.spikes.max_reverts <= self.reverts_in_a_row

  def add_healthy(self, step: int, loss: float, config: config_dict.ConfigDict) -> None:
    """Records a healthy loss measured at `step`."""
    n = losses_in_mean(config)
    kept = config.spikes.window if n == 1 else max(config.spikes.window, LENGTHS_KEPT * n)
    self.losses = [*self.losses, loss][-kept:]
    # A spike may show up to n - 1 steps late: only after those steps is the run past it.
    delay = n * (PATIENCE if self._is_last_attempt(config) else 1)
    if step >= self.furthest + delay:
      self.reverts_in_a_row = 0

  def add_revert(self, step: int, config: config_dict.ConfigDict) -> None:
    """Records that a spike at `step` was reverted.

    Raises:
      UserError: more than `spikes.max_reverts` reverts in a row did not get past the latest spike.
    """
    self.furthest = max(self.furthest, step)
    self.reverts_in_a_row += 1
    if self.reverts_in_a_row > config.spikes.max_reverts:
      raise UserError(
          f'training diverges: {config.spikes.max_reverts} reverts in a row did not get past step '
          f'{self.furthest}; continue with a lower --config.train.learning_rate or with '
          '--config.train.clip_norm=1')


def losses_in_mean(config: config_dict.ConfigDict) -> int:
  """How many consecutive losses are averaged before they are compared."""
  return -(-MIN_IMAGES // config.train.batch_size)


def validated_after(config: config_dict.ConfigDict) -> int:
  """The number of later healthy losses that validate a checkpoint.

  A mean shows a spike up to `losses_in_mean` - 1 steps late, hence so many more than
  `spikes.trust_after`.
  """
  return config.spikes.trust_after + losses_in_mean(config) - 1


def newest_validated(checkpoints: Iterable[int], step: int, validated_after: int) -> int:
  """The checkpoint to return to when `step` spikes.

  A loss is measured before its update, so only later losses show that a checkpoint is sound. Step 0
  precedes all updates and counts as validated.

  Args:
    checkpoints: steps that have a checkpoint.
  Returns:
    The newest validated step, or else the oldest one: `obsolete` keeps two validated checkpoints,
    so the oldest was validated before some earlier revert.
  """
  validated = [c for c in checkpoints if c == 0 or c + validated_after <= step]
  return max(validated, default=min(checkpoints))


def obsolete(checkpoints: Iterable[int], step: int, validated_after: int) -> list[int]:
  """The checkpoints to delete when all losses before `step` were healthy.

  The two newest validated checkpoints stay (the second in case the first is damaged), and all newer
  ones. With a checkpoint every k steps, at most max(3, ceil(validated_after / k) + 2) exist,
  including the one saved next; those saved on SIGTERM add at most `validated_after`.
  """
  return sorted(c for c in checkpoints if c == 0 or c + validated_after <= step)[:-2]

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


@dataclasses.dataclass
class Health:
  """What has been seen of the losses; saved with every checkpoint, restored with it."""

  losses: list = dataclasses.field(default_factory=list)  # the last healthy ones, oldest first
  furthest: int = -1  # the latest step that spiked
  reverts_in_a_row: int = 0  # since the run last went beyond `furthest`


def is_spike(health, loss, config):
  """Whether a loss is non-finite, or far above the recent level by a robust measure.

  The level is the median of the recent healthy losses, the scale 1.4826 times their median
  absolute deviation (a standard deviation, for Gaussian noise).
  """
  if not math.isfinite(loss):
    return True
  if len(health.losses) < min(MIN_LOSSES, config.window):
    return False
  level = statistics.median(health.losses)
  scale = 1.4826 * statistics.median(abs(value - level) for value in health.losses)
  return loss > level + config.threshold * max(scale, MIN_RELATIVE_SCALE * abs(level))


def record_healthy(health, step, loss, config):
  """Adds the healthy loss measured at `step`."""
  health.losses = [*health.losses, loss][-config.window :]
  if step > health.furthest:
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


def newest_trusted(checkpoints, step, config):
  """The checkpoint to return to when `step` spikes.

  A loss is measured before its update, so a checkpoint shows that it is sound only through later
  losses: `trust_after` healthy ones. Step 0, untouched by any update, needs no proof.

  Args:
    checkpoints: steps that have one.
  Returns:
    The newest trusted step; else the oldest there is.
  """
  trusted = [c for c in checkpoints if c == 0 or c + config.trust_after <= step]
  return max(trusted, default=min(checkpoints))


def checkpoints_to_keep(checkpoint_every, config):
  """How many of the newest checkpoints always include a trusted one."""
  return -(-config.trust_after // checkpoint_every) + 2

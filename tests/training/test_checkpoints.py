import logging as py_logging
import sys

import numpy as np
from absl import logging

from conv_draw.training import checkpoints, spikes, steps


def test_opening_reading_and_writing_leave_loggers_and_hooks_alone(tmp_path, monkeypatch):
  """They are the process's, not a library's."""
  loggers = [logging.get_absl_logger(), py_logging.getLogger('asyncio'), py_logging.getLogger()]
  for logger in loggers:  # another test may have run a command line
    monkeypatch.setattr(logger, 'filters', [])
  handlers = [list(logger.handlers) for logger in loggers]
  levels = [logger.level for logger in loggers]
  hook = sys.__unraisablehook__
  monkeypatch.setattr(sys, 'unraisablehook', hook)
  zero = np.int32(0)
  state = steps.TrainState(zero, zero, {'w': np.ones(3, np.float32)}, None, None)
  for keep in (2, None):
    opened = checkpoints.Checkpoints(tmp_path, keep)
    if keep:
      opened.save(state, spikes.Health())
      opened.wait()
    opened.restore_newest(state, warn=print)
    opened.close()
  params, step = checkpoints.restore_params(tmp_path, state)
  np.testing.assert_array_equal(params['w'], 1)
  assert step == 0
  assert [logger.filters for logger in loggers] == [[], [], []]
  assert [list(logger.handlers) for logger in loggers] == handlers
  assert [logger.level for logger in loggers] == levels and sys.unraisablehook is hook

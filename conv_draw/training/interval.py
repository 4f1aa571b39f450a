"""Averages of the metrics between two lines of the log."""

import contextlib
import math
import time

from conv_draw.model import objective


class Interval:
  """The steps since the last line, and their time."""

  def __init__(self, image_shape, batch_size):
    self._image_shape, self._batch_size = image_shape, batch_size
    self._opened = time.monotonic()
    self.forget()

  def forget(self):
    """Drops the steps since the last line, which a spike has undone, but not their time."""
    self._began, self._values = None, []

  def add(self, values):
    self._values.append(values)
    if self._began is None:  # from here on: the first step of a run has compiled
      self._began, self._before = time.monotonic(), len(self._values)

  @contextlib.contextmanager
  def paused(self):
    """Inside, time passes that is not the training steps'."""
    began = time.monotonic()
    yield
    if self._began is not None:
      self._began += time.monotonic() - began

  def close(self):
    """Means since the last call, the throughput and the time."""
    now = time.monotonic()
    line = {
        name: math.fsum(v[name] for v in self._values) / len(self._values)
        for name in self._values[0]}
    line['bits_per_dim'] = objective.bits_per_dim(line['nats'], self._image_shape)
    images = (len(self._values) - self._before) * self._batch_size
    if images:  # not where the only step was the one that compiled
      line['images_per_second'] = images / max(now - self._began, 1e-9)
    line['seconds'] = now - self._opened  # what was spent, compilation and all
    self._opened, self._began, self._values, self._before = now, now, [], 0
    return line

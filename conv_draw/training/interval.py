"""Means of the training metrics between two log lines, and the throughput."""

import contextlib
import math
import time
from collections.abc import Iterator

from conv_draw.model import objective


class Interval:
  """Accumulates the metrics of the steps since the last log line."""

  def __init__(self, image_shape: tuple[int, int, int], batch_size: int):
    self._image_shape, self._batch_size = image_shape, batch_size
    self._opened = time.monotonic()
    self.forget()

  def forget(self) -> None:
    """Drops the steps that a revert has undone, but keeps counting their time."""
    self._began, self._values = None, []

  def add(self, values: dict[str, float]) -> None:
    """Adds the metrics of a step, in nats per image."""
    self._values.append(values)
    if self._began is None:  # the first step includes compilation: throughput counts from here
      self._began, self._before = time.monotonic(), len(self._values)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Excludes the time spent in this context from the throughput."""
    began = time.monotonic()
    yield
    if self._began is not None:
      self._began += time.monotonic() - began

  def close(self) -> dict[str, float]:
    """Means since the last call, bits/dim, images per second and seconds; starts the next interval.

    `seconds` includes compilation, pauses and undone steps.
    """
    now = time.monotonic()
    line = {
        name: math.fsum(v[name] for v in self._values) / len(self._values)
        for name in self._values[0]}
    line['bits_per_dim'] = objective.bits_per_dim(line['nats'], self._image_shape)
    images = (len(self._values) - self._before) * self._batch_size
    if images:  # unless the only step was the one that compiled
      line['images_per_second'] = images / max(now - self._began, 1e-9)
    line['seconds'] = now - self._opened
    self._opened, self._began, self._values, self._before = now, now, [], 0
    return line

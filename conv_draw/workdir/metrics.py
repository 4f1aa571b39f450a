"""The log of a run: metrics.jsonl, TensorBoard event files and the progress line."""

import contextlib
import json
import math
import os
import sys
import time
from typing import Any

from conv_draw.errors import UserError

FILE = 'metrics.jsonl'
# JSON has no such numbers; the log stores them as strings.
NOT_FINITE = [repr(float(text)) for text in ('inf', '-inf', 'nan')]


class Metrics:
  """Appends to `workdir`/metrics.jsonl and TensorBoard event files; does nothing if not `on`."""

  def __init__(self, workdir: str, on: bool = True):
    self._on = on
    if not on:
      return
    os.makedirs(workdir, exist_ok=True)
    path = os.path.join(workdir, FILE)
    _end_last_line(path)
    self._file = open(path, 'a', buffering=1)
    from tensorboardX import SummaryWriter  # reading does not need it
    try:
      self._tensorboard = SummaryWriter(workdir)
    except BaseException:  # the file may be writable and the directory not
      self._file.close()
      raise

  def write(self, step: int, split: str, values: dict[str, float], **labels: Any) -> None:
    """Writes a line with scalars measured on `split` at `step`; `labels` go to the file alone."""
    if not self._on:
      return
    values = {name: float(value) for name, value in values.items()}
    self._line({'step': step, 'split': split, **values, **labels})
    for name, value in values.items():
      self._tensorboard.add_scalar(f'{split}/{name}', value, step)

  def event(self, step: int, event: str, **fields: Any) -> None:
    """Writes a line for an event, such as 'revert'."""
    if not self._on:
      return
    self._line({'step': step, 'event': event, **fields})
    self._tensorboard.add_text(event, json.dumps(fields), step)

  def close(self) -> None:
    if self._on:
      self._file.close()
      self._tensorboard.close()

  def _line(self, fields):
    self._file.write(line(fields))


def line(fields: dict[str, Any]) -> str:
  """A line of metrics.jsonl."""
  return json.dumps(_finite(fields)) + '\n'


def _finite(value):
  """`value` with strings for non-finite numbers."""
  if isinstance(value, dict):
    return {k: _finite(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(v) for v in value]
  return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def read(workdir: str) -> list[dict[str, Any]]:
  """The lines of `workdir`/metrics.jsonl, oldest first, as dicts."""
  try:
    return read_file(os.path.join(workdir, FILE))
  except FileNotFoundError as e:
    raise UserError(
        f'{e.filename} does not exist: {workdir} is not the workdir of a run') from None


def read_file(path: str) -> list[dict[str, Any]]:
  """The lines of a metrics.jsonl, oldest first, as dicts."""
  with open(path) as f:
    lines = f.read().splitlines()
  entries = []
  for line in lines:
    with contextlib.suppress(json.JSONDecodeError):  # truncated when a run was killed
      entries.append({k: float(v) if v in NOT_FINITE else v for k, v in json.loads(line).items()})
  return entries


def _end_last_line(path):
  """Completes a last line that a kill has truncated."""
  if os.path.exists(path) and os.path.getsize(path):
    with open(path, 'rb+') as f:
      f.seek(-1, os.SEEK_END)
      if f.read(1) != b'\n':
        f.write(b'\n')


class Progress:
  """A progress bar on a terminal, else plain lines; both on stderr. Does nothing if not `on`."""

  def __init__(self, total: int, start: int, unit: str, on: bool = True):
    from tqdm import tqdm  # reading does not need it
    self._on, self._tqdm = on, tqdm
    self._bar = tqdm(
        total=total, initial=start, unit=unit, dynamic_ncols=True,
        disable=not (on and sys.stderr.isatty()))
    self._total, self._start, self._unit = total, start, unit
    self._began = time.monotonic()

  def at(self, done: int) -> None:
    """Moves the bar."""
    self._bar.update(done - self._bar.n)

  def tell(self, done: int, text: str) -> None:
    """Shows `text` beside the bar, or on a line with the time left."""
    if not self._on:
      return
    if not self._bar.disable:
      self._bar.set_postfix_str(text)
      return
    rate = (done - self._start) / max(time.monotonic() - self._began, 1e-9)
    left = self._tqdm.format_interval((self._total - done) / rate) if rate > 0 else '?'
    print(f'{self._unit} {done}/{self._total}  {text}  {left} left', file=sys.stderr, flush=True)

  def say(self, text: str) -> None:
    """Prints a line that stays."""
    if self._on:
      self._tqdm.write(text, file=sys.stderr)

  def close(self) -> None:
    self._bar.close()

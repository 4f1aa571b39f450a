"""Table 1 of the paper for runs, as Markdown, from their workdirs."""

import math
from typing import NamedTuple

from conv_draw.errors import UserError
from conv_draw.training import trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics, settings


class Row(NamedTuple):
  """A row of the table; fields that a baseline does not have are empty."""

  data: str  # data set, version, split and number of evaluated images
  bound: float  # on the test split, to sort by
  model: str
  test: str
  weighted: str  # importance-weighted bound
  parameters: str = ''
  steps: str = ''  # including those of the runs it started from, as the time
  time: str = ''
  workdir: str = ''
  notes: tuple[str, ...] = ()  # below the table: settings that changed during training


def markdown(workdirs):
  """The table of runs and of the baselines for the same data.

  Raises:
    UserError: names a workdir that holds no run, or a run that has not been evaluated.
  """
  found = {row for workdir in workdirs for row in rows(workdir)}
  lines = [
      '| data | model | test (train) | importance weighted | parameters | steps | time | workdir |',
      '|---|---|---|---|---|---|---|---|']
  for row in sorted(found, key=lambda row: (row.data, -row.bound)):
    marked = f'{row.model} \\*' if row.notes else row.model
    lines.append('| ' + ' | '.join((row.data, marked, *row[3:-1])) + ' |')
  notes = [f'\\* {row.workdir}: {"; ".join(row.notes)}' for row in found if row.notes]
  return '\n'.join([*lines, '', '\n\n'.join(sorted(notes))] if notes else lines)


def kind(config):
  """Name of the model in the paper's table, without its settings."""
  m, o = config.model, config.objective
  if m.kind == 'progressive':
    return "Transform codec with conv DRAW's decoder"
  if m.kind == 'vae':
    name = 'IWAE' if o.bound == 'iwae' else 'Deep VAE' if m.stride else 'VAE'
  else:
    name = 'Conv DRAW' if m.stride else 'DRAW'
  if m.kind == 'local':
    return f'{name} + local autoregressive' if m.steps else 'Local autoregressive'
  return name


def describe(config):
  """`kind` and its settings that differ from the paper's."""
  m, o = config.model, config.objective
  count = 1 + (len(m.upper_features) if m.steps or m.kind == 'vae' else 0)
  extras = [f'{count} layers'] if count > 1 else []
  if o.samples > 1:
    extras.append(f'{o.samples} samples')
  if m.likelihood in ('logistic_mixture', 'squared_error'):
    extras.append(m.likelihood.replace('_', ' '))
  if o.beta != 1:
    extras.append(f'beta = {o.beta:g}')
  if m.kind == 'local' and config.local.auxiliary:
    extras.append(f'auxiliary {config.local.auxiliary:g}')
  return kind(config) + (f' ({", ".join(extras)})' if extras else '')


def rows(workdir):
  """Yields the `Row` of a run and those of the baselines for its data.

  Raises:
    UserError: as `markdown`.
  """
  config, lines = config_lib.load(workdir), metrics.read(workdir)
  tests = [line for line in lines if line.get('split') == 'test']
  plain = [line for line in tests if line['importance_samples'] == 1]
  weighted = [line for line in tests if line['importance_samples'] > 1]
  logs = [metrics.read_file(log) for log in trained.logs(workdir)]
  stages = [[line for line in log if line.get('split') == 'train'] for log in logs]
  starts = [line for line in lines if line.get('event') == 'start']
  if not (plain and stages[-1] and starts):
    raise UserError(
        f'{workdir} has no test likelihood to put into a table: train it to its end, or run '
        f'python launch.py --mode=evaluate --workdir={workdir}'
        + (' --config.evaluate.importance_samples=1' if weighted else ''))
  in_nats = config_lib.is_binary(config)
  unit = 'nats' if in_nats else 'bits_per_dim'
  digits = 2 if in_nats else 3

  def bound(line):
    error = line['standard_error_nats']
    error = math.nan if error is None else error * line[unit] / line['nats']
    return f'< {line[unit]:.{digits}f} ± {number(error, digits)}'

  test, start = plain[-1], starts[-1]
  before = sum(stage[-1]['step'] for stage in stages[:-1] if stage)
  seconds = sum(line['seconds'] for stage in stages for line in stage)
  data = _data(test, in_nats)
  best = weighted and max(weighted, key=lambda line: (line['images'], line['importance_samples']))
  yield Row(
      data, test[unit], describe(config),
      f'{bound(test)} ({stages[-1][-1][unit]:.{digits}f})',
      f'{bound(best)}, {best["importance_samples"]} samples'
      + ('' if best['images'] == test['images'] else f', {best["images"]:.0f} images')
      if best else '',
      f'{start["parameters"]:,}', f'{before + test["step"]:,}',
      f'{_duration(seconds)} on {start["devices"]} {start["device_kind"]}', workdir,
      tuple(note for log in logs for note in _continued(log)))
  for line in lines:
    if line.get('event') == 'baseline':
      text = f'{line[unit]:.{digits}f}'
      yield Row(_data(line, in_nats), float(text), line['name'], text, '')


def number(value, digits):
  """A number as text: n/a if it is not finite, as the standard error of a single image."""
  return f'{value:.{digits}f}' if math.isfinite(value) else 'n/a'


def _continued(log):
  """Yields a text for each start at which settings or hardware changed."""
  shown = {s.key for s in settings.SETTINGS if s.may_change == settings.SHOWN}
  before = None
  for line in log:
    if line.get('event') != 'start':
      continue
    changed = {k: v for k, v in line.get('changed', {}).items() if k in shown}
    for key in ('data', 'images', 'devices', 'device_kind', 'jax'):
      if before and before.get(key, line.get(key)) != line.get(key):
        changed[key] = [before[key], line.get(key)]
    before = line
    if changed:
      yield f'continued at step {line["step"]:,} with other settings: ' + ', '.join(
          f'{key} {old} -> {new}' for key, (old, new) in changed.items())


def _data(line, in_nats):
  some = '' if line['images'] == line['of'] else f'{line["images"]:.0f} of '
  return f'{line["data"]}, {some}{line["of"]} images, {"nats" if in_nats else "bits/dim"}'


def _duration(seconds):
  if seconds < 5400:
    return f'{seconds / 60:.1f} min'
  return f'{seconds / 3600:.1f} h'

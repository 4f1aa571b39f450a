"""A web page about runs: results, training curves, reconstructions and samples.

The page is one self-contained file (`elements`). A slider over t shows reconstructions from the
first t latent groups.
"""

import os

import jax
import numpy as np

from conv_draw.errors import UserError
from conv_draw.report import elements, figures, pictures, table
from conv_draw.training import trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics

FRAMES = 17  # values of t on the slider, at most
IMAGES = 8  # test images
# Letters that mark events on the training curve.
MARKED = {'revert': 'R', 'resume': 'C', 'preempted': 'P'}
NEXT_RUN = 'N'


def of_runs(runs):
  """The page about some runs, a string.

  Args:
    runs: [(`trained.Run`, None or the reason why its data are missing)]. Reconstructions of its
      test images are shown unless these are missing.
  """
  title = ' and '.join(_name(run) for run, _ in runs)
  body = [elements.heading(title, 1)]
  if len(runs) > 1:
    body.append(_comparison([run for run, _ in runs]))
  for run, missing in runs:
    body += _about(run, missing)
  return elements.document(title, ''.join(body))


def _name(run):
  """Name of a run: the last part of its workdir's path."""
  return os.path.basename(os.path.abspath(run.workdir))


def _comparison(runs):
  """Table 1 of the runs that have been evaluated."""
  rows = dict.fromkeys(row for run in runs for row in _rows(run.workdir)[0])
  if not rows:
    return ''
  rows = sorted(rows, key=lambda row: (row.data, -row.bound))
  return elements.heading('Comparison') + elements.table(
      ('data', 'model', 'test (train)', 'importance weighted', 'parameters', 'steps', 'time',
       'workdir'), [(row.data, row.model, *row[3:-1]) for row in rows])


def _rows(workdir):
  """(the distinct `table.rows` of a run, None), or ([], the reason why there are none)."""
  try:
    return list(dict.fromkeys(table.rows(workdir))), None
  except UserError as e:
    return [], str(e)


def _about(run, missing):
  """Yields the parts of the page about one run."""
  config = run.config
  unit = 'nats' if config_lib.is_binary(config) else 'bits_per_dim'
  yield elements.heading(f'{_name(run)}: {table.describe(config)}')
  rows, missing_result = _rows(run.workdir)
  if rows:
    mine, *baselines = rows
    facts = (
        ('data', mine.data), ('test (train)', mine.test), ('importance weighted', mine.weighted),
        *((row.model, row.test) for row in baselines), ('parameters', mine.parameters),
        ('steps', mine.steps), ('time', mine.time), ('note', '; '.join(mine.notes)))
  else:
    yield elements.paragraph(missing_result)
    parameters = sum(x.size for x in jax.tree.leaves(run.params))
    facts = (('data', run.images.name), ('parameters', f'{parameters:,}'),
             ('steps', f'{run.step:,}'))
  yield elements.table((), [(name, value) for name, value in facts if value])
  yield _training([metrics.read_file(log) for log in trained.logs(run.workdir)], unit)
  if run.model.iterations and missing:
    yield elements.paragraph(f'Without the test images there are no reconstructions: {missing}')
  elif run.model.iterations:
    yield from _reconstructions(run)
  drawn = figures.samples(run)
  yield elements.heading('Samples', 3)
  yield elements.picture(
      _grid(pictures.grid_of(drawn, 8)), f'{len(drawn)} images sampled from the model',
      f'{len(drawn)} images sampled from the model.')


def _training(logs, unit):
  runs = figures.curves(logs, unit)
  marks = [(begin, NEXT_RUN) for begin, _ in runs[1:]]
  for (begin, _), lines in zip(runs, logs, strict=True):
    marks += [(begin + line['step'], MARKED[line['event']]) for line in lines
              if line.get('event') in MARKED]
  series = []
  for split in ('train', 'test'):
    found = {step: value for _, by_split in runs for step, value in by_split[split].items()}
    if found:
      series.append((split, list(found), list(found.values()), split == 'test'))
  if not series:
    return elements.paragraph('There is no log of its training yet.')
  legend = 'R: reverted a loss spike; C: continued; P: preempted; N: start of the next run.'
  return elements.heading('Training', 3) + elements.curves(
      'step', unit.replace('_per_', '/'), series, sorted(marks), figures.span(runs)) + (
          elements.paragraph(legend) if marks else '')


def _reconstructions(run):
  """Yields the slider over t, and the curves of the KL by layer and iteration."""
  some = figures.Reconstructions(run, IMAGES)
  iterations = run.model.iterations
  shown = np.unique(np.round(np.linspace(0, iterations, FRAMES)).astype(int))
  ways = {}
  for way, temperature in (("the others at the prior's means", 0.0), ('the others sampled', 1.0)):
    ways[way] = []
    for t in map(int, shown):
      drawn = some.at(t, temperature)
      ways[way].append((
          _grid(np.stack([some.originals, drawn])),
          f'Above, {len(drawn)} test images; below, reconstructions from {t} latent groups, {way}',
          f'{t} of {iterations} groups, {some.stored_bits_per_dim(t):.3f} bits/dim, '
          f'{some.psnr(drawn):.2f} dB'))
  yield elements.heading('Reconstructions from the first latent groups', 3)
  yield elements.paragraph(
      'Above are images of the test split; below are reconstructions from the stored groups of '
      'latents, for which the model generates the others.')
  yield elements.slider('Latent groups', ways)
  yield elements.heading('KL by layer and iteration', 3)
  bits = some.kl_nats / np.log(2)
  steps = list(range(1, iterations + 1))
  yield elements.curves('iteration', 'KL, bits per image', [
      (f'layer {i + 1}', steps, bits[:, i].tolist(), False) for i in range(bits.shape[1])],
      span=(0, 1.05 * float(bits.max()) or 1))


def _grid(grid):
  """A PNG file's bytes of a grid of images."""
  return pictures.png(pictures.picture(grid))

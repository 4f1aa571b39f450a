"""The modes of launch.py, for one run or several."""

import functools
import os
import sys

from conv_draw.data import sets
from conv_draw.errors import UserError, reason
from conv_draw.machine import hosts
from conv_draw.machine.files import write_file
from conv_draw.model import objective
from conv_draw.report import baselines, figures, page, pictures, table
from conv_draw.training import evaluate, loop, trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics as metrics_lib
from conv_draw.workdir import published


def run(mode, config, workdir):
  """Runs one mode. Results go to stdout, progress to stderr.

  Several processes train and evaluate together; only the primary prints and writes files.
  """
  load = functools.cache(functools.partial(sets.load, config.data))  # opens each split once
  if mode == 'report':
    _check_is_of(config, workdir)
    print('wrote', _page([_with_data(config, workdir)], os.path.join(workdir, 'figures')))
    return
  if mode == 'train':
    trained_run = loop.train(config, workdir, load)
  else:
    hosts.on_primary(lambda: _check_is_of(config, workdir))
    with hosts.together():
      images = load('test')
    trained_run = trained.load(config, workdir, images)
  if mode in ('train', 'evaluate'):
    _evaluate(trained_run, load)
  if hosts.primary():
    _draw(mode, trained_run)
  hosts.wait_for_all('done')


def _check_is_of(config, workdir):
  """Raises `UserError` unless a configuration describes the model of a workdir."""
  differing = [k for k in config_lib.differences(config_lib.load(workdir), config)
               if k.startswith(('model.', 'local.', 'progressive.', 'train.ema_decay'))
               and not config_lib.may_change(k)]
  if differing:
    raise UserError(
        f'{workdir} was trained with another {differing[0]}: leave out --config and '
        f'--config.{differing[0]} to use the stored ones')


def _draw(mode, trained_run):
  config, workdir = trained_run.config, trained_run.workdir
  directory = os.path.join(workdir, 'figures')
  if mode in ('train', 'sample', 'figures'):
    path = os.path.join(directory, 'samples.png')
    pictures.save_grid(path, pictures.grid_of(figures.samples(trained_run), columns=8))
    print('wrote', path)
  latents = trained_run.model.iterations > 0
  if mode == 'reconstruct' and not latents:
    raise UserError(f'{workdir} has no latents to reconstruct from: --mode=sample draws images')
  if latents and mode in ('train', 'reconstruct', 'figures'):
    path = os.path.join(directory, 'reconstructions.png')
    pictures.save_grid(path, figures.reconstructions(trained_run))
    print('wrote', path)
  if mode == 'figures':
    of_latents = (figures.figure_1, figures.figure_2, figures.figure_3) if latents else ()
    for figure in (*of_latents, figures.figure_4):
      for path in figure(trained_run, directory):
        print('wrote', path, flush=True)
    unit = 'nats' if config_lib.is_binary(config) else 'bits_per_dim'
    logs = [metrics_lib.read_file(log) for log in trained.logs(workdir)]
    for path in figures.training(logs, unit, directory):
      print('wrote', path)


def run_several(mode, workdirs):
  """Runs a mode for several runs: 'table', 'report', or 'figures' for figure 5."""
  if mode == 'table':
    print(table.markdown(workdirs))
    return
  parent = os.path.commonpath([os.path.dirname(os.path.abspath(w)) for w in workdirs])
  directory = os.path.join(parent, 'figures')
  if mode == 'report':
    print('wrote', _page([_with_data(config_lib.load(w), w) for w in workdirs], directory))
    return
  runs = []
  for workdir in workdirs:
    config = config_lib.load(workdir)
    drawn = figures.samples(trained.load(config, workdir))
    tests = [line for line in metrics_lib.read(workdir) if line.get('split') == 'test']
    runs.append((config, drawn, tests[-1] if tests else None))
  shapes = {drawn.shape for _, drawn, _ in runs}
  if len(shapes) > 1:
    raise UserError(
        'figure 5 needs runs on images of one size with one number of --config.figures.samples; '
        f'these have {" and ".join(map(str, sorted(shapes)))}')
  paths = figures.figure_5(runs, directory)
  tested = [(table.kind(config), config, test) for config, _, test in runs if test]
  if tested:
    unit = 'nats' if config_lib.is_binary(tested[0][1]) else 'bits_per_dim'
    paths += figures.latents(tested, unit, directory)
  for path in paths:
    print('wrote', path)


def _with_data(config, workdir):
  """(a run with its test images, None), or (without them, the reason why they are missing)."""
  try:
    return trained.load(config, workdir, sets.load(config.data, 'test')), None
  except UserError as e:
    return trained.load(config, workdir), str(e)


def _page(runs, directory):
  """Path of the `page` about some runs, which it writes."""
  os.makedirs(directory, exist_ok=True)
  path = os.path.join(directory, 'report.html')
  write_file(path, page.of_runs(runs).encode())
  return path


def _evaluate(trained_run, load):
  """Prints the test likelihood and the baselines', and adds them to metrics.jsonl.

  Args:
    load: split -> `sets.Images`; the baselines are fitted to 'train'.
  """
  config, images = trained_run.config, trained_run.images
  total = min(len(images), config.evaluate.max_images or len(images))
  progress = metrics_lib.Progress(total, 0, 'image', hosts.primary())
  if images.left_out:
    progress.say(images.left_out)
  result = evaluate.evaluate(trained_run, progress.at)
  progress.close()
  if not hosts.primary():
    return
  k, step = config.evaluate.importance_samples, trained_run.step
  bound = f'importance-weighted bound, {k} samples' if k > 1 else 'variational bound'
  print(f'{images.name}: {result.count} of {len(images)} images, {bound}, after {step} steps')
  error = objective.bits_per_dim(result.standard_error_nats, images.shape)
  _row(table.describe(config), result.nats, images.shape, '<',
       f' +- {table.number(error, 4)}  (reconstruction {result.reconstruction_nats:.2f}, latents '
       f'{result.kl_nats.sum():.2f}, standard error '
       f'{table.number(result.standard_error_nats, 2)} nats)')
  if result.squared_error is not None:
    print('  ' + evaluate.truncation_points(trained_run, result))
  metrics = _metrics(trained_run.workdir)
  evaluate.write(metrics, trained_run, result)
  for name, nats in _baselines(config, load('train'), images):
    _row(name, nats, images.shape, ' ', f'  (all {len(images)} images)')
    metrics.event(
        step, 'baseline', name=name, nats=nats, data=images.name, images=len(images),
        bits_per_dim=objective.bits_per_dim(nats, images.shape), of=len(images))
  metrics.close()


def _metrics(workdir):
  """`Metrics` of a run; without effect if the run is published or cannot be written."""
  if not published.is_one(workdir):
    try:
      return metrics_lib.Metrics(workdir)
    except OSError as e:
      print(f'{workdir} cannot be written ({reason(e)}): its metrics.jsonl will not hold this '
            'result', file=sys.stderr)
  return metrics_lib.Metrics(workdir, on=False)


def _row(name, nats, shape, sign, rest=''):
  bits = objective.bits_per_dim(nats, shape)
  print(f'  {name:24} {sign} {nats:10.2f} nats  {sign} {bits:7.4f} bits/dim{rest}', flush=True)


def _baselines(config, train_images, images):
  """Yields (name, nats per image) of the baselines on the whole test split."""
  if config_lib.is_binary(config):
    yield 'uniform', baselines.uniform_nats(images.shape, grey_levels=2)
    yield 'independent pixels', baselines.bernoulli_nats(train_images, images)
    return
  yield 'uniform', baselines.uniform_nats(images.shape, images.grey_levels)
  if baselines.gaussian_is_feasible(train_images):
    yield ('multivariate Gaussian', baselines.multivariate_gaussian_nats(train_images, images))

"""The paper's figures from trained models: PNG at print quality, and the numbers as CSV.

The function of a figure returns the paths of the files that it writes. `run` is a `trained.Run`;
`samples` and `figure_4` do not need its data.
"""

import csv
import functools
import io
import os

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from conv_draw import quality
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.machine.files import write_file
from conv_draw.model import objective
from conv_draw.model.noise import image_keys
from conv_draw.report import drawing, labelled, pictures
from conv_draw.report.labelled import WIDTH
from conv_draw.training import evaluate, steps

matplotlib.use('Agg')  # no display
from matplotlib import pyplot as plt
from matplotlib import ticker

LEVELS = 9  # rows of figure 1: values of t
SAMPLES = 4  # columns for each image of figure 1, with samples


def stored_groups(iterations):
  """Values of t in figure 1: from 0, no stored latent groups, to T."""
  return np.unique(np.round(np.linspace(0, iterations, LEVELS)).astype(int))


def samples(run):
  """Samples of the model, [N, H, W, C] uint8, where N is `figures.samples`."""
  model, count, size = run.model, run.config.figures.samples, run.images.shape[:2]
  draw = jax.jit(lambda params, key: model.apply(params, key, count, size, method='sample'))
  canvas = draw(run.params, _key(run, 0))
  return to_bytes(drawing.pictures(run, canvas, image_keys(_key(run, 0), count)))


def _key(run, number):
  return steps.random_key(run.config.evaluate.seed, steps.FIGURES, number)


@functools.cache
def _compiled(model):
  """The functions infer and reconstruct of a model, compiled once for all figures."""
  return jax.jit(model.apply), jax.jit(
      lambda params, keys, images, groups, temperature, generation_keys: model.apply(
          params, keys, images, groups, temperature, generation_key=generation_keys,
          method='reconstruct'))


class Reconstructions:
  """Test images and their reconstructions from the first t latent groups.

  Attributes:
    originals: uint8 [N, H, W, C].
    kl_nats: [T, L], averaged over the images.
  """

  def __init__(self, run, count):
    """Chooses `count` of the run's images at equal distances."""
    images, self._run = run.images, run
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    self._images = images.fetch(chosen)
    self.originals = to_bytes(self._images / (images.grey_levels - 1))
    self._keys = lambda number: jax.vmap(
        lambda i: jax.random.fold_in(_key(run, number), i))(jnp.arange(len(chosen)))
    infer, self._decode = _compiled(run.model)
    inference = infer(run.params, self._keys(1), self._images)
    kl_nats = np.asarray(inference.kl_nats, np.float64)  # [T, L, N]
    self.kl_nats = kl_nats.mean(-1)
    stored = kl_nats.sum(1).cumsum(0)  # [T, N]
    self._stored_nats = np.concatenate([np.zeros((1, len(chosen))), stored])

  def at(self, groups, temperature, sample=0):
    """Reconstructions from `groups` latent groups, [N, H, W, C] uint8; the others are generated.

    Args:
      groups: t.
      temperature: of the generated latents.
      sample: index of the random numbers of the generated latents.
    """
    others = self._keys(2 + sample)
    canvas = self._decode(
        self._run.params, self._keys(1), self._images, groups, temperature, others)
    return to_bytes(drawing.pictures(self._run, canvas, others))

  def stored_bits_per_dim(self, groups):
    """Bits/dim of the first `groups` latent groups, averaged over the images."""
    return objective.bits_per_dim(
        self._stored_nats[groups].mean(), self._images.shape[1:])

  def psnr(self, decoded):
    """PSNR in dB, of the mean squared error over all images."""
    return quality.psnr_db(self.originals, decoded)


def reconstructions(run):
  """Originals and reconstructions for `stored_groups`, uint8 [1 + values of t, N, H, W, C].

  Generated latents have the temperature `figures.temperature`.
  """
  settings = run.config.figures
  some = Reconstructions(run, settings.reconstructions)
  rows = [some.at(t, settings.temperature) for t in stored_groups(run.model.iterations)]
  return np.stack([some.originals, *rows])


def figure_1(run, directory):
  """Progressive reconstructions: several samples of each image, and the prior's means."""
  paths = []
  for name, temperature, each in (('samples', 1.0, SAMPLES), ('means', 0.0, 1)):
    some = Reconstructions(run, max(1, run.config.figures.reconstructions // each))
    rows, labels, numbers = [some.originals.repeat(each, 0)], [_original(run)], []
    for t in stored_groups(run.model.iterations):
      # [N, each, H, W, C] -> an image's samples side by side
      drawn = np.stack([some.at(t, temperature, j) for j in range(each)], 1)
      rows.append(drawn.reshape(-1, *drawn.shape[2:]))
      bits = some.stored_bits_per_dim(t)
      labels.append(f't = {t}\n{bits:.2f} bits/dim')
      numbers.append((t, bits, np.mean([some.psnr(drawn[:, j]) for j in range(each)]),
                      drawn.std(1).mean() / 255))
    paths += _write(
        directory, f'figure_1_{name}', labelled.rows(np.stack(rows), labels),
        ('groups', 'stored_bits_per_dim', 'psnr_db', 'standard_deviation_over_samples'), numbers)
  return paths


def _original(run):
  """Label of the originals; with a local autoregressive model, also of the rows below."""
  if not isinstance(run.model, LocalDraw):
    return 'original'
  return 'original; below,\n' + (
      'sampled pixels' if run.config.local.figures == 'sampled' else "the canvas's mean")


def figure_2(run, directory):
  """KL in bits by layer and iteration, over the test split."""
  kl_nats = evaluate.evaluate(run).kl_nats  # [T, L]
  figure, axes = plt.subplots(figsize=(WIDTH / 2, WIDTH / 3))
  for i, layer in enumerate(kl_nats.T):
    axes.plot(range(1, len(layer) + 1), layer / np.log(2), marker='.', label=f'layer {i + 1}')
  axes.set_xlabel('iteration')
  axes.set_ylabel('KL (bits per image)')
  axes.set_ylim(bottom=0)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.legend(frameon=False)
  rows = [
      (t + 1, i + 1, nats, nats / np.log(2), objective.bits_per_dim(nats, run.images.shape))
      for i, layer in enumerate(kl_nats.T) for t, nats in enumerate(layer)]
  return _write(directory, 'figure_2', labelled.png(figure),
                ('iteration', 'layer', 'kl_nats', 'kl_bits', 'kl_bits_per_dim'), rows)


def figure_3(run, directory):
  """Lossy compression at the paper's rates: originals, full and zero variance of the prior.

  At each rate, t is the number of latent groups whose mean KL over the images is nearest to it.
  Rates with the same t, such as those above the whole KL, share their rows.
  """
  some = Reconstructions(run, run.config.figures.reconstructions)
  spent = np.array([some.stored_bits_per_dim(t) for t in range(run.model.iterations + 1)])
  rows, labels, numbers = [], [], []
  for rate in pictures.PAPERS_RATES:
    t = int(abs(spent - rate).argmin())
    full, zero = some.at(t, 1.0), some.at(t, 0.0)
    if t not in [row[1] for row in numbers]:
      rows += [some.originals, full, zero]
      labels += [f'{rate} bits/dim:\noriginal', f't = {t} ({spent[t]:.3f})\nfull variance',
                 'zero variance']
    numbers.append((rate, t, spent[t], some.psnr(full), some.psnr(zero)))
  return _write(
      directory, 'figure_3', labelled.rows(np.stack(rows), labels),
      ('rate_bits_per_dim', 'groups', 'stored_bits_per_dim', 'psnr_db_full_variance',
       'psnr_db_zero_variance'), numbers)


def figure_4(run, directory):
  """Samples."""
  drawn = samples(run)
  columns = int(np.ceil(np.sqrt(len(drawn))))
  grid = pictures.grid_of(drawn, columns)
  rows = [(*divmod(i, columns), x.mean() / 255, x.std() / 255) for i, x in enumerate(drawn)]
  return _write(directory, 'figure_4', labelled.rows(grid, [''] * len(grid)),
                ('row', 'column', 'mean', 'standard_deviation'), rows)


def figure_5(runs, directory):
  """Samples at several beta, two rows for each.

  Args:
    runs: (config, uint8 samples [N, H, W, C], last test line of metrics.jsonl or None) of each.
  """
  runs = sorted(runs, key=lambda run: run[0].objective.beta)
  rows, labels, numbers = [], [], []
  for config, drawn, test in runs:
    half = max(1, len(drawn) // 2)
    rows.append(drawn[: 2 * half].reshape(-1, half, *drawn.shape[1:]))
    labels += [f'beta = {config.objective.beta:g}'] + [''] * (len(rows[-1]) - 1)
    test = test or {}
    numbers.append((config.objective.beta, *(test.get(name, '') for name in (
        'bits_per_dim', 'nats', 'reconstruction_nats', 'kl_nats', 'images'))))
  return _write(
      directory, 'figure_5', labelled.rows(np.concatenate(rows), labels),
      ('beta', 'test_bits_per_dim', 'test_nats', 'test_reconstruction_nats', 'test_kl_nats',
       'test_images'), numbers)


def latents(runs, unit, directory):
  """The bound of several runs against the KL of their latents.

  Args:
    runs: (name of the model, config, last test line of metrics.jsonl) of each.
    unit: 'nats' or 'bits_per_dim'.
  """
  figure, axes = plt.subplots(figsize=(WIDTH / 2, WIDTH / 3))
  rows = []
  for name, config, test in runs:
    scale = test[unit] / test['nats']
    error = test['standard_error_nats']
    auxiliary = config.local.auxiliary if config.model.kind == 'local' else 0.0
    rows.append((name, config.objective.beta, auxiliary, scale * test['kl_nats'],
                 scale * test['nats'], scale * test['reconstruction_nats'],
                 np.nan if error in (None, np.inf) else scale * error,  # of one image
                 test['images']))
  rows.sort(key=lambda row: (row[0], row[3]))
  for name in sorted({row[0] for row in rows}):
    points = np.array([row[3:7] for row in rows if row[0] == name])
    axes.errorbar(
        points[:, 0], points[:, 1], points[:, 3], marker='.', linewidth=0.7, label=name)
  axes.set_xlabel(f'KL of the latents ({unit.replace("_per_", "/")})')
  axes.set_ylabel(f'bound ({unit.replace("_per_", "/")})')
  axes.legend(frameon=False, fontsize=7)
  return _write(
      directory, 'latents', labelled.png(figure),
      ('model', 'beta', 'auxiliary', f'latents_{unit}', f'bound_{unit}', f'pixels_{unit}',
       f'standard_error_{unit}', 'images'), rows)


def curves(logs, unit):
  """Training loss and test bound by step, of a run and of the runs it started from.

  Args:
    logs: the lines of each run's metrics.jsonl, in the order of the runs.
    unit: 'nats' or 'bits_per_dim'.
  Returns:
    [(first step of a run, {'train': {step: value}, 'test': {step: value}})].
  """
  begin, runs = 0, []
  for lines in logs:
    found = {'train': {}, 'test': {}}
    for line in lines:  # steps after a reverted spike replace those before
      if line.get('split') in found and line.get('importance_samples', 1) == 1 and (
          np.isfinite(line[unit])):
        found[line['split']][begin + line['step']] = line[unit]
    runs.append((begin, found))
    begin = max([begin, *found['train'], *found['test']])
  return runs


def span(runs):
  """(lower, upper) limit of the values of `curves` to show.

  The limits are of the values after the first tenth of the steps: those of the untrained model are
  much larger.
  """
  points = [point for _, found in runs for some in found.values() for point in some.items()]
  last = max(step for step, _ in points)
  shown = [value for step, value in points if step >= 0.1 * last]
  margin = 0.05 * (max(shown) - min(shown)) or 1
  return min(shown) - margin, max(shown) + margin


def training(logs, unit, directory):
  """The figure of `curves`, whose arguments it takes."""
  runs = curves(logs, unit)
  if not any(some for _, found in runs for some in found.values()):  # no line has been logged
    return []
  figure, axes = plt.subplots(figsize=(WIDTH / 2, WIDTH / 3))
  for begin, found in runs:
    for split, style in (('train', 'C0-'), ('test', 'C3o')):
      axes.plot(list(found[split]), list(found[split].values()), style, linewidth=0.7,
                markersize=3, label=split if not begin else None)
    axes.axvline(begin, color='0.8', linewidth=0.5)
  axes.set_ylim(*span(runs))
  axes.set_xlabel('step')
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))  # 20k
  axes.set_ylabel(unit.replace('_per_', '/'))
  axes.legend(frameon=False)
  return _write(directory, 'training', labelled.png(figure))


def to_bytes(x):
  """Pixel values in [0, 1] -> uint8 0..255."""
  return np.asarray(jnp.round(255 * jnp.clip(x, 0, 1)), np.uint8)


def _write(directory, name, png, header=(), rows=()):
  """Paths of a PNG file and, with a header, a CSV file, which it writes."""
  path = os.path.join(directory, name)
  os.makedirs(directory, exist_ok=True)
  write_file(f'{path}.png', png)
  if not header:
    return [f'{path}.png']
  text = io.StringIO(newline='')
  writer = csv.writer(text)
  writer.writerow(header)
  writer.writerows(
      ['n/a' if value != value else f'{value:.6g}' if isinstance(value, float) else value
       for value in row] for row in rows)
  write_file(f'{path}.csv', text.getvalue())
  return [f'{path}.png', f'{path}.csv']

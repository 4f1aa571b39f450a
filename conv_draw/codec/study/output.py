"""What a comparison found: as CSV, as curves, as pictures and as tables."""

import csv
import io
import math
import os

import matplotlib
import numpy as np

from conv_draw.codec import output_paths
from conv_draw.codec.study.comparison import (
    FULL_VARIANCE,
    OURS,
    SHEET,
    SHOWN,
    Point,
    at_rate,
    curve,
    interpolated,
)
from conv_draw.errors import UserError
from conv_draw.report import labelled
from conv_draw.report.pictures import PAPERS_RATES

matplotlib.use('Agg')  # no display
from matplotlib import pyplot as plt

RATES = (*PAPERS_RATES, 1.6)  # bits/dim
SHOWN_RATES = (0.2, 0.8)  # bits/dim, of the pictures
SHOWN_SIDE = 256  # pixels; of larger pictures, the middle
FIGURE_3 = ('JPEG', 'JPEG 2000', FULL_VARIANCE, OURS)  # at every one of the paper's rates

# All but the first of lossy points alone, the last one of sheets that were coded in this study.
FILES = ('study.csv', 'study.png', 'study_images.png', 'study_figure_3.png')
COLUMNS = ('protocol', 'codec', 'setting', 'lossless', 'bits_per_dim', 'psnr_db', 'mean_psnr_db')


def check(folder, overwrite=False):
  """Whether a study may write its files to `folder`; those of an earlier study are replaced.

  Raises:
    UserError: there are files of these names that no study wrote, and they are not to be
      overwritten; or they cannot be written.
  """
  output_paths.check([], [os.path.join(folder, name) for name in FILES],
                overwrite or _is_of_a_study(folder), folder)


def write(folder, points, metric, shown):
  """Writes those of `FILES` for which there is something, each whole or not at all.

  Args:
    shown: the images, [H, W, C] uint8 each.
  Returns:
    Their names.
  """
  contents = {FILES[0]: to_csv(points, metric)}
  if not all(point.lossless for point in points):
    contents[FILES[1]] = plot(points, metric)
    contents[FILES[2]] = images(points, shown)
    if any((p.protocol, p.codec) == ('sheet', OURS) and p.decoded is not None for p in points):
      contents[FILES[3]] = figure_3(points, shown)
  for name, content in contents.items():
    output_paths.write(os.path.join(folder, name), content, folder, overwrite=True)  # as checked
  return list(contents)


def _is_of_a_study(folder):
  """Whether its study.csv begins as those that `write` wrote do."""
  try:
    with open(os.path.join(folder, FILES[0]), 'rb') as f:
      return f.readline(1000).startswith(','.join(COLUMNS).encode() + b',')
  except OSError:
    return False


def to_csv(points, metric):
  """The points as CSV, a string."""
  text = io.StringIO(newline='')
  writer = csv.writer(text)
  writer.writerow([*COLUMNS, metric])
  for p in points:
    writer.writerow([p.protocol, p.codec, p.setting, int(p.lossless), f'{p.bits_per_dim:.5f}',
                     f'{p.psnr_db:.3f}', f'{p.mean_psnr_db:.3f}', f'{p.similarity:.5f}'])
  return text.getvalue()


def from_csv(path, metric):
  """The points in a file of `to_csv`, without what was decoded.

  Raises:
    UserError: there is no such file, or it is not of a study with this metric.
  """
  try:
    with open(path, newline='', encoding='utf-8') as f:
      rows = list(csv.reader(f))
    if not rows or rows[0] != [*COLUMNS, metric]:
      raise UserError(f'{path} is no study.csv of a study by {metric}: name another file')
    return [Point(protocol, codec, setting, lossless == '1', *map(float, numbers), None)
            for protocol, codec, setting, lossless, *numbers in rows[1:]]
  except (OSError, TypeError, ValueError) as e:
    raise UserError(f'{path} cannot be read ({e}): name the study.csv of an earlier study') from e


def plot(points, metric):
  """PSNR and similarity against the rate, of what is best by each, a column per protocol: a PNG."""
  protocols = list(dict.fromkeys(p.protocol for p in points))
  codecs = dict.fromkeys(p.codec for p in points if not p.lossless)
  colours = {codec: f'C{i}' for i, codec in enumerate(codecs)}  # the same in every column
  figure, axes = plt.subplots(
      2, len(protocols), figsize=(5 * len(protocols), 7), sharex=True, sharey='row', squeeze=False)
  for column, protocol in zip(axes.T, protocols, strict=True):
    for codec in _codecs(points, protocol):
      for axis, measure in zip(column, ('psnr_db', 'similarity'), strict=True):
        axis.plot(*zip(*curve(_lossy(points, protocol, codec), measure), strict=True),
                  color=colours[codec], label=codec, marker='.', markersize=3,
                  linewidth=2.2 if codec == OURS else 1)
    column[0].set_title(f'{SHEET} images in a file' if protocol == 'sheet' else 'one file each')
    column[1].set(xscale='log', xlabel='bits/dim, whole files', xlim=(0.02, 4))
  axes[0, 0].set_ylabel('PSNR, dB')
  axes[1, 0].set_ylabel(metric)
  axes[0, 0].legend()
  for axis in axes.flat:
    axis.grid(alpha=0.3)
  figure.tight_layout()
  data = io.BytesIO()
  figure.savefig(data, dpi=200, format='png')
  plt.close(figure)
  return data.getvalue()


def images(points, shown):
  """Originals, and below them what each codec makes of them at `SHOWN_RATES`: a PNG.

  On a sheet, if there is one; without codecs whose points are `from_csv`.
  """
  protocol = points[0].protocol
  rows, labels = [shown], ['original']
  for rate in SHOWN_RATES:
    for codec in _codecs(points, protocol):
      found = _lossy(points, protocol, codec)
      if codec != FULL_VARIANCE and all(point.decoded is not None for point in found):
        _add(rows, labels, codec, at_rate(found, rate))
  return _picture(shown, rows, labels)


def figure_3(points, shown):
  """The paper's figure 3, from files: at each of its rates originals and `FIGURE_3`: a PNG."""
  rows, labels = [], []
  for rate in PAPERS_RATES:
    rows.append(shown)
    labels.append(f'{rate} bits/dim:\noriginal')
    for codec in FIGURE_3:
      _add(rows, labels, codec, at_rate(_lossy(points, 'sheet', codec), rate))
  return _picture(shown, rows, labels)


def _add(rows, labels, codec, point):
  rows.append(point and point.decoded)
  labels.append(codec.replace(', ', '\n') + (f' ({point.bits_per_dim:.3f})' if point else ''))


def _picture(shown, rows, labels):
  """A PNG of rows of images, white where there are none; of each, what all have in the middle."""
  height, width = (
      min(SHOWN_SIDE, *(image.shape[axis] for image in shown)) for axis in range(2))

  def middle(image):
    top, left = ((n - m) // 2 for n, m in zip(image.shape, (height, width), strict=False))
    return image[top : top + height, left : left + width]

  first = np.stack(list(map(middle, shown[:SHOWN])))
  return labelled.rows(np.stack([
      np.full_like(first, 255) if row is None else np.stack(list(map(middle, row[:SHOWN])))
      for row in rows]), labels)


def _codecs(points, protocol):
  """Of lossy points."""
  return list(dict.fromkeys(p.codec for p in points if p.protocol == protocol and not p.lossless))


def _lossy(points, protocol, codec):
  """Points that say something: not an image of nothing."""
  return [p for p in points if (p.protocol, p.codec, p.lossless) == (protocol, codec, False)
          and not p.setting.startswith('0 groups')]


def fields(points, speeds, metric):
  """What was found, as dicts and lists of numbers and strings."""
  def of_point(point):
    found = point._asdict()
    found.pop('decoded')
    found[metric] = found.pop('similarity')
    return {name: value if not isinstance(value, float) or math.isfinite(value) else None
            for name, value in found.items()}

  return {'points': list(map(of_point, points)), 'speeds': [speed._asdict() for speed in speeds]}


def tables(points, speeds, metric):
  """What was found, as Markdown."""
  protocols, lines = list(dict.fromkeys(p.protocol for p in points)), []
  for protocol in protocols:
    codecs = _codecs(points, protocol)
    if not codecs:
      continue
    for title, measure, digits in (('PSNR in dB', 'psnr_db', 2), (metric, 'similarity', 3)):
      lines += [f'Lossy, {protocol}: {title} at so many bits/dim, by the settings best for it, '
                'between two of them interpolated', '',
                '| bits/dim | ' + ' | '.join(codecs) + ' |', '|---' * (len(codecs) + 1) + '|']
      for rate in RATES:
        found = [interpolated(_lossy(points, protocol, codec), rate, measure) for codec in codecs]
        lines.append(f'| {rate} | ' + ' | '.join(
            '-' if at is None else f'{at:.{digits}f}' for at in found) + ' |')
      lines.append('')
  lossless = list(dict.fromkeys(p.codec for p in points if p.lossless))
  if lossless:
    lines += ['Lossless, bits/dim', '', '| | ' + ' | '.join(lossless) + ' |',
              '|---' * (len(lossless) + 1) + '|']
  for protocol in protocols if lossless else ():
    found = {p.codec: p for p in points if p.lossless and p.protocol == protocol}
    lines.append(f'| {protocol} | ' + ' | '.join(
        f'{found[codec].bits_per_dim:.4f}' for codec in lossless) + ' |')
  if speeds:
    lines += ['', 'Speed of ours (lossless encoding without the decoding that checks it)', '',
              '| | encode | decode | peak memory |', '|---|---|---|---|']
  for s in speeds:
    encode, decode = (
        f'{s.images / t:.1f} images/s, {s.megabytes / t:.3f} MB/s'
        for t in (s.encode_seconds, s.decode_seconds))
    peak = '-' if s.peak_gib is None else f'{s.peak_gib:.2f} GiB'
    lines.append(f'| {s.what} | {encode} | {decode} | {peak} |')
  return '\n'.join(lines)

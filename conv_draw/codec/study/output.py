"""What a comparison found: as CSV, as curves, as pictures and as tables."""

import csv
import io
import os

import matplotlib
import numpy as np
from PIL import Image

from conv_draw.codec import targets
from conv_draw.codec.study.comparison import OURS, SHEET, SHOWN, at_rate
from conv_draw.report import pictures

matplotlib.use('Agg')  # no display
from matplotlib import pyplot as plt

RATES = (0.05, 0.1, 0.15, 0.2, 0.4, 0.8, 1.6)  # bits/dim: the paper's, and one more
SHOWN_RATE = 0.8  # bits/dim, of the pictures


FILES = ('study.csv', 'study.png', 'study_images.png')  # the last two of lossy points alone
COLUMNS = ('protocol', 'codec', 'setting', 'lossless', 'bits_per_dim', 'psnr_db')


def check(folder, overwrite=False):
  """Whether a study may write its files to `folder`; those of an earlier study are replaced.

  Raises:
    UserError: there are files of these names that no study wrote, and they are not to be
      overwritten; or they cannot be written.
  """
  targets.check([], [os.path.join(folder, name) for name in FILES],
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
    if len({image.shape for image in shown}) == 1:
      contents[FILES[2]] = images(points, shown)
  for name, content in contents.items():
    targets.write(os.path.join(folder, name), content, folder, overwrite=True)  # as checked
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
                     f'{p.psnr_db:.3f}', f'{p.similarity:.5f}'])
  return text.getvalue()


def plot(points, metric):
  """PSNR and similarity against the rate, one column per protocol: a PNG file's bytes."""
  protocols = list(dict.fromkeys(p.protocol for p in points))
  figure, axes = plt.subplots(
      2, len(protocols), figsize=(5 * len(protocols), 7), sharex=True, sharey='row', squeeze=False)
  for column, protocol in zip(axes.T, protocols, strict=True):
    for codec in dict.fromkeys(p.codec for p in points if not p.lossless):
      found = [p for p in points if (p.protocol, p.codec, p.lossless) == (protocol, codec, False)
               and p.setting != '0 groups']  # an image of nothing: no line leads there
      found.sort(key=lambda p: p.bits_per_dim)
      best = [p for i, p in enumerate(found)  # the settings that no cheaper one beats
              if all(p.psnr_db > other.psnr_db for other in found[:i])]
      style = dict(marker='.', linewidth=2.2 if codec == OURS else 1)
      rates = [p.bits_per_dim for p in best]
      column[0].plot(rates, [p.psnr_db for p in best], label=codec, **style)
      column[1].plot(rates, [p.similarity for p in best], **style)
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
  """Originals, and below them what each codec makes of them at `SHOWN_RATE`: a PNG.

  On a sheet, if there is one.
  """
  rows = [np.stack(shown[:SHOWN])]
  protocol = points[0].protocol
  for codec in dict.fromkeys(p.codec for p in points if not p.lossless):
    best = at_rate([p for p in points if (p.protocol, p.codec, p.lossless) == (
        protocol, codec, False)], SHOWN_RATE)
    rows.append(np.full_like(rows[0], 255) if best is None else np.stack(best.decoded))
  picture, data = pictures.picture(np.stack(rows)), io.BytesIO()
  Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(data, 'PNG')
  return data.getvalue()


def tables(points, speeds, metric):
  """What was found, as Markdown."""
  codecs = list(dict.fromkeys(p.codec for p in points if not p.lossless))
  protocols = list(dict.fromkeys(p.protocol for p in points))
  lines = []
  for protocol in protocols if codecs else ():
    lines += [f'Lossy, {protocol}: PSNR in dB ({metric}) at no more than so many bits/dim', '',
              '| bits/dim | ' + ' | '.join(codecs) + ' |', '|---' * (len(codecs) + 1) + '|']
    for rate in RATES:
      cells = []
      for codec in codecs:
        best = at_rate([p for p in points if (p.protocol, p.codec, p.lossless) == (
            protocol, codec, False)], rate)
        cells.append('-' if best is None else f'{best.psnr_db:.2f} ({best.similarity:.3f})')
      lines.append(f'| {rate} | ' + ' | '.join(cells) + ' |')
    lines.append('')
  lossless = list(dict.fromkeys(p.codec for p in points if p.lossless))
  if lossless:
    lines += ['Lossless, bits/dim', '', '| | ' + ' | '.join(lossless) + ' |',
              '|---' * (len(lossless) + 1) + '|']
  for protocol in protocols if lossless else ():
    found = {p.codec: p for p in points if p.lossless and p.protocol == protocol}
    lines.append(f'| {protocol} | ' + ' | '.join(
        f'{found[codec].bits_per_dim:.4f}' for codec in lossless) + ' |')
  lines += ['', 'Speed of ours (lossless encoding without the decoding that checks it)', '',
            '| | encode | decode | coder, of encoding | peak memory |', '|---|---|---|---|---|']
  for s in speeds:
    encode, decode = (
        f'{s.images / t:.1f} images/s, {s.megabytes / t:.3f} MB/s'
        for t in (s.encode_seconds, s.decode_seconds))
    peak = '-' if s.peak_gib is None else f'{s.peak_gib:.2f} GiB'
    lines.append(
        f'| {s.what} | {encode} | {decode} | {100 * s.coder_seconds / s.encode_seconds:.0f} % | '
        f'{peak} |')
  return '\n'.join(lines)

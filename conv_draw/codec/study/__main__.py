"""Rate and distortion of our files beside JPEG, JPEG 2000, WebP, AVIF and PNG, on the test split.

  python -m conv_draw.codec.study [--workdir=runs/NAME] [--data_dir=DIR] [--images=100] [--out=DIR]

Without --workdir it studies the CIFAR-10 model that comes with the package.

Sizes are those of whole files. Two protocols: 'sheet' stores 100 images as one picture, so that
small images do not pay for a header each (the paper's protocol for the classical codecs; ours codes
the images on it one by one, as tiles); 'single' stores each in a file of its own. Writes study.csv,
study.png and study_images.png to DIR (default: the run's folder `study`) and prints the tables.
"""

import csv
import os
import sys
import time
from typing import NamedTuple

import matplotlib
import numpy as np
from absl import app, flags

from conv_draw import command_line
from conv_draw.codec import coder as coder_lib
from conv_draw.codec.format import container
from conv_draw.codec.study import classical, quality
from conv_draw.data import sets
from conv_draw.errors import UserError
from conv_draw.report import pictures
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import published

matplotlib.use('Agg')  # no display
from matplotlib import pyplot as plt

WORKDIR = flags.DEFINE_string(
    'workdir', None, 'The run whose model is studied; default: conv_draw/pretrained/cifar10_codec.')
OUT = flags.DEFINE_string(
    'out', None, 'Where the results go; default WORKDIR/study, or runs/cifar10_codec/study.')
IMAGES = flags.DEFINE_integer('images', 100, 'Test images, the first so many.', lower_bound=1)
DATA_DIR = flags.DEFINE_string('data_dir', None, "Instead of the run's own data.data_dir.")

OURS = 'conv DRAW'
SHEET = 100  # images on a sheet
COLUMNS = 10
RATES = (0.05, 0.1, 0.15, 0.2, 0.4, 0.8, 1.6)  # bits/dim: the paper's, and one more
SHOWN_RATE = 0.8  # bits/dim, of the pictures
SHOWN = 10  # images of it
PROTOCOLS = ('sheet', 'single')


class Point(NamedTuple):
  """One way to store all the images, and what came of it."""

  protocol: str
  codec: str
  setting: str
  lossless: bool
  bits_per_dim: float  # of whole files
  psnr_db: float
  similarity: float  # MS-SSIM or SSIM
  decoded: np.ndarray | None  # [N, H, W, C] uint8, of lossy ones


class Speed(NamedTuple):
  """Of coding some images."""

  what: str
  images: int
  megabytes: float  # of pixels
  encode_seconds: float  # with the decoding that checks it
  decode_seconds: float
  coder_seconds: float  # of encode_seconds, outside the network


def study(coder, images, progress=print):
  """Stores images [N, H, W, C] uint8 of 0..grey_levels-1 in every way: ([`Point`], [`Speed`])."""
  shown = to_bytes(images, coder.model.pixels.grey_levels)
  points, speeds = [], []
  for protocol in PROTOCOLS:
    of_protocol = _parts(images) if protocol == 'sheet' else list(images)
    progress(f'{protocol}: ours')
    found, speed = _ours(coder, protocol, of_protocol, images, shown)
    points += found
    speeds += speed
    parts = [to_bytes(part, coder.model.pixels.grey_levels) for part in of_protocol]
    for setting in classical.lossless() + classical.lossy():
      progress(f'{protocol}: {setting.codec}, {setting.name}')
      points.append(_classical(protocol, setting, parts, shown))
  return points, speeds


def to_bytes(images, grey_levels):
  """Values 0..grey_levels-1 as 0..255."""
  return np.rint(images * (255 / (grey_levels - 1))).astype(np.uint8)


def at_rate(points, rate):
  """The `Point` of the best PSNR among those of at most `rate` bits/dim; None if there is none."""
  return max((p for p in points if p.bits_per_dim <= rate), key=lambda p: p.psnr_db, default=None)


def _ours(coder, protocol, parts, images, shown):
  """([`Point`] of every number of groups and lossless, [`Speed`])."""
  side = max(images.shape[1:3]) if protocol == 'sheet' else None
  coder.encode(parts[0], True, side=side)  # compiles
  points, speeds = [], []
  for lossless in (False, True):
    started, network_seconds = time.perf_counter(), coder.clock.seconds
    coded = [coder.encode(part, lossless, side=side) for part in parts]
    encoded = time.perf_counter()
    network_seconds = coder.clock.seconds - network_seconds
    for part, file in zip(parts, coded, strict=True):
      decoded, _, _ = coder.decode(file.data)
      assert np.array_equal(decoded, part if lossless else file.decoded)
    speeds.append(Speed(
        f'{protocol}, {"lossless" if lossless else "lossy"}', len(images), images.size / 1e6,
        encoded - started, time.perf_counter() - encoded,
        encoded - started - network_seconds))
    if lossless:
      size = sum(len(file.data) for file in coded)
      points.append(_point(protocol, OURS, 'lossless', True, size, None, shown))
      continue
    for groups in range(coder.model.iterations + 1):
      size, decoded = 0, []
      for file in coded:
        part = container.write(file.header, file.segments[:groups])
        size += len(part)
        decoded.append(coder.decode(part)[0])
      decoded = to_bytes(_images(decoded, images), coder.model.pixels.grey_levels)
      points.append(_point(
          protocol, OURS, f'{groups} groups', False, size, decoded, shown))
  return points, speeds


def _classical(protocol, setting, parts, shown):
  coded = [classical.encode(part, setting) for part in parts]
  size, decoded = sum(n for n, _ in coded), _images([d for _, d in coded], shown)
  lossless = setting in classical.lossless()
  assert not lossless or np.array_equal(decoded, shown), setting
  return _point(
      protocol, setting.codec, setting.name, lossless, size, None if lossless else decoded, shown)


def _point(protocol, codec, setting, lossless, size, decoded, shown):
  bits = size * 8 / shown.size
  if lossless:
    return Point(protocol, codec, setting, True, bits, float('inf'), 1.0, None)
  _, similarity = quality.similarity(shown, decoded)
  return Point(protocol, codec, setting, False, bits, quality.psnr_db(shown, decoded), similarity,
               decoded)


def _parts(images):
  """[N, H, W, C] -> sheets of up to 100 images, [rows H, 10 W, C] each."""
  sheets = []
  for start in range(0, len(images), SHEET):
    part = images[start : start + SHEET]
    columns = min(COLUMNS, len(part))
    rows = -(-len(part) // columns)
    part = np.pad(part, ((0, rows * columns - len(part)), (0, 0), (0, 0), (0, 0)))
    _, h, w, c = part.shape
    sheets.append(part.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(
        rows * h, columns * w, c))
  return sheets


def _images(parts, like):
  """Undoes `_parts`, or stacks single images: [N, H, W, C] of `like`'s shape."""
  _, h, w, c = like.shape
  found = []
  for part in parts:
    rows, columns = part.shape[0] // h, part.shape[1] // w
    found.append(part.reshape(rows, h, columns, w, c).transpose(0, 2, 1, 3, 4).reshape(-1, h, w, c))
  return np.concatenate(found)[: len(like)]


# Output -------------------------------------------------------------------------------------------


def write_csv(path, points, metric):
  with open(path, 'w', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(['protocol', 'codec', 'setting', 'lossless', 'bits_per_dim', 'psnr_db', metric])
    for p in points:
      writer.writerow([p.protocol, p.codec, p.setting, int(p.lossless), f'{p.bits_per_dim:.5f}',
                       f'{p.psnr_db:.3f}', f'{p.similarity:.5f}'])


def plot(path, points, metric):
  """PSNR and similarity against the rate, one column per protocol."""
  figure, axes = plt.subplots(2, len(PROTOCOLS), figsize=(10, 7), sharex=True, sharey='row')
  for column, protocol in zip(axes.T, PROTOCOLS, strict=True):
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
  figure.savefig(path, dpi=200)
  plt.close(figure)


def show(path, points, shown):
  """Originals, and below them what each codec makes of them at `SHOWN_RATE` on a sheet."""
  rows = [shown[:SHOWN]]
  for codec in dict.fromkeys(p.codec for p in points if not p.lossless):
    best = at_rate([p for p in points if (p.protocol, p.codec, p.lossless) == (
        'sheet', codec, False)], SHOWN_RATE)
    rows.append(np.full_like(rows[0], 255) if best is None else best.decoded[:SHOWN])
  pictures.save_grid(path, np.stack(rows))


def tables(points, speeds, metric):
  """What was found, as Markdown."""
  codecs = list(dict.fromkeys(p.codec for p in points if not p.lossless))
  lines = []
  for protocol in PROTOCOLS:
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
  lines += ['Lossless, bits/dim', '', '| | ' + ' | '.join(lossless) + ' |',
            '|---' * (len(lossless) + 1) + '|']
  for protocol in PROTOCOLS:
    found = {p.codec: p for p in points if p.lossless and p.protocol == protocol}
    lines.append(f'| {protocol} | ' + ' | '.join(
        f'{found[codec].bits_per_dim:.4f}' for codec in lossless) + ' |')
  lines += ['', 'Speed of ours (encoding decodes once to check)', '',
            '| | encode | decode | coder, of encoding |', '|---|---|---|---|']
  for s in speeds:
    encode, decode = (
        f'{s.images / t:.1f} images/s, {s.megabytes / t:.3f} MB/s'
        for t in (s.encode_seconds, s.decode_seconds))
    lines.append(
        f'| {s.what} | {encode} | {decode} | {100 * s.coder_seconds / s.encode_seconds:.0f} % |')
  return '\n'.join(lines)


def main(argv):
  workdir = WORKDIR.value or published.path('cifar10_codec')
  out = OUT.value or os.path.join(WORKDIR.value or 'runs/cifar10_codec', 'study')
  with command_line.errors_in_one_line('conv_draw.codec.study', out):
    if len(argv) > 1:
      raise UserError(f'unexpected argument {argv[1]!r}: name a run by --workdir=runs/NAME')
    coder = coder_lib.Coder.load(workdir)
    data_config = config_lib.load(workdir).data.copy_and_resolve_references()
    if DATA_DIR.value is not None:
      data_config.data_dir = DATA_DIR.value
    try:
      split = sets.load(data_config, 'test')
    except UserError as e:
      raise UserError(str(e).replace('--config.data.data_dir', '--data_dir')) from None
    images = split.fetch(np.arange(min(IMAGES.value, len(split))))
    os.makedirs(out, exist_ok=True)
    report = sys.stderr if sys.stderr.isatty() else None
    progress = lambda text: report and print(f'\r{text:60}', end='', file=report, flush=True)
    points, speeds = study(coder, images, progress)
    shown = to_bytes(images, coder.model.pixels.grey_levels)
    metric, _ = quality.similarity(shown[:1], shown[:1])
    write_csv(os.path.join(out, 'study.csv'), points, metric)
    plot(os.path.join(out, 'study.png'), points, metric)
    show(os.path.join(out, 'study_images.png'), points, shown)
    print(f'\n{split.name}: {len(images)} of {len(split)} images, model {coder.name}\n')
    print(tables(points, speeds, metric))
    print(f'\nwrote {out}/study.csv, study.png, study_images.png')


if __name__ == '__main__':
  app.run(main)

"""What the pages and cards say of the studies is what the studies' files have."""

import csv
import re

import pytest

from conv_draw.codec.study import comparison, output
from tests.program import ROOT

CODECS = ('JPEG 2000', 'JPEG XL', 'JPEG', 'WebP', 'AVIF', comparison.OURS)


def points(name, metric):
  return output.from_csv(f'{ROOT}/docs/{name}_study.csv', metric)


def text(path):
  with open(f'{ROOT}/{path}', encoding='utf-8') as f:
    return f.read()


def shown(found, codec, rate, measure='psnr_db', digits=2):
  """As it stands on a page."""
  lossy = [p for p in found if p.codec == codec and not p.lossless
           and not p.setting.startswith('0 groups')]
  value = comparison.interpolated(lossy, rate, measure)
  return '-' if value is None else f'{value:.{digits}f}'


@pytest.mark.parametrize('title, name, metric, measure, digits', [
    ('Kodak, PSNR in dB at bits/dim', 'photos_lossy', 'MS-SSIM', 'psnr_db', 2),
    ('Kodak, MS-SSIM at bits/dim', 'photos_lossy', 'MS-SSIM', 'similarity', 3),
    ('CIFAR-10, PSNR in dB at bits/dim', 'cifar10_lossy', 'SSIM', 'psnr_db', 2),
    ('CIFAR-10 by convolutional DRAW, PSNR in dB at bits/dim', 'cifar10_figure_3', 'SSIM',
     'psnr_db', 2)])
def test_tables_of_lossy_files(title, name, metric, measure, digits):
  lines = text('docs/lossy.md').splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith(f'| {title} |'))
  cells = lambda line: [cell.strip().strip('*') for cell in line.strip('|').split('|')]
  codecs, found = cells(lines[start])[1:], points(name, metric)
  assert set(codecs) == set(CODECS)
  rows = [cells(line) for line in lines[start + 2 : lines.index('', start)]]
  assert len(rows) >= 5
  for rate, *row in rows:
    assert row == [shown(found, codec, float(rate), measure, digits) for codec in codecs], rate


@pytest.mark.parametrize('path, line, name, metric, rates', [
    ('README.md', '| Kodak, lossy files of 0.2', 'photos_lossy', 'MS-SSIM', (0.2,)),
    ('README.md', '| CIFAR-10, lossy files of 0.2', 'cifar10_lossy', 'SSIM', (0.2,)),
    ('conv_draw/pretrained/photos_lossy/README.md', '| Kodak |', 'photos_lossy', 'MS-SSIM',
     (0.1, 0.2, 0.4, 0.8)),
    ('conv_draw/pretrained/cifar10_lossy/README.md', '| files |', 'cifar10_lossy', 'SSIM',
     (0.05, 0.1, 0.15, 0.2, 0.4, 0.8))])
def test_what_others_have_in_one_line(path, line, name, metric, rates):
  line, = (row for row in text(path).splitlines() if row.startswith(line))
  found = points(name, metric)
  for codec in CODECS[:-1]:
    numbers = re.search(rf'\b{codec} ((?:(?:-|\d+\.\d+)(?:, )?)+)', line)
    assert numbers, codec
    assert numbers[1].rstrip(', ').split(', ') == [shown(found, codec, r) for r in rates], codec
  ours = [shown(found, comparison.OURS, rate) for rate in rates]
  assert ', '.join(ours) in line


def test_readme_has_the_lossless_sizes():
  line, = (row for row in text('README.md').splitlines() if row.startswith('| Kodak, lossless'))
  for point in points('photos_lossless', 'MS-SSIM'):
    if 'effort 1' not in point.codec:
      name = '' if point.codec.startswith(comparison.OURS) else f'{point.codec} '
      assert f'{name}{point.bits_per_dim:.3f}' in line, point


def test_the_other_codecs_are_no_weaker_than_published():
  """Of the same photographs, the mean of their PSNR; AVIF's was of the slowest encoder."""
  found = points('photos_lossy', 'MS-SSIM')
  by_source = {}
  lines = text('docs/kodak_elsewhere.csv').splitlines()
  for row in csv.DictReader(lines):
    if row['codec'] in CODECS and 'here' not in row['source']:
      by_source.setdefault((row['codec'], row['source']), []).append(row)
  assert len(by_source) == 5
  for (codec, source), rows in by_source.items():
    slack = 0.8 if codec == 'AVIF' else 0.05
    for row in rows:
      rate = float(row['bits_per_dim'])
      if 0.05 <= rate <= 0.8:
        here = shown(found, codec, rate, 'mean_psnr_db')
        if here != '-':
          assert float(here) > float(row['mean_psnr_db']) - slack, (source, row)

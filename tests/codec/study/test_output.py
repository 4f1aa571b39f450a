import csv
import io

import numpy as np
import pytest
from PIL import Image

from conv_draw.codec.study import comparison, output
from conv_draw.errors import UserError


def points():
  decoded = np.zeros((2, 8, 8, 3), np.uint8)
  return [
      comparison.Point(protocol, codec, 'some', False, rate, 20 + rate, 0.5, decoded)
      for protocol in comparison.PROTOCOLS
      for codec, rate in ((comparison.OURS, 0.5), ('JPEG', 0.7), ('JPEG', 1.0))]


def test_files_of_a_study_are_replaced_and_no_others(tmp_path):
  shown = np.zeros((2, 8, 8, 3), np.uint8)
  out = tmp_path / 'new' / 'study'
  for _ in range(2):  # the second replaces the first
    output.check(str(out))
    output.write(str(out), points(), 'SSIM', shown)
  assert sorted(path.name for path in out.iterdir()) == sorted(output.FILES)
  rows = list(csv.DictReader(io.StringIO((out / 'study.csv').read_text())))
  assert len(rows) == 6 and rows[0]['bits_per_dim'] == '0.50000'
  for name in output.FILES[1:]:
    Image.open(out / name).load()

  (out / 'study.csv').write_text('someone, else\n')
  with pytest.raises(UserError, match='study.csv and 2 more would be overwritten.*--overwrite'):
    output.check(str(out))
  output.check(str(out), overwrite=True)
  (out / 'study.csv').unlink()
  with pytest.raises(UserError, match='study.png and 1 more would be overwritten'):
    output.check(str(out))
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='file is no folder'):
    output.check(str(tmp_path / 'file'))


def test_of_lossless_points_alone_there_are_numbers_alone(tmp_path):
  found = [p._replace(lossless=True, decoded=None) for p in points()]
  assert output.write(str(tmp_path), found, 'SSIM', []) == ['study.csv']
  text = output.tables(found, [], 'SSIM')
  assert 'Lossy' not in text and '| single | 0.5000 | 1.0000 |' in text


def test_sheets_larger_than_the_classical_codecs_hold_are_refused_at_once():
  images = list(np.zeros((10, 1, 1639, 1), np.uint8))
  with pytest.raises(UserError, match='16390 pixels a side, and WebP holds 16383'):
    comparison.compare(None, images)

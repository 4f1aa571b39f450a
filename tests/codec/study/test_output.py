import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from conv_draw.codec.study import comparison, output
from conv_draw.errors import UserError


def points():
  decoded = np.zeros((10, 8, 8, 3), np.uint8)
  return [
      comparison.Point(protocol, codec, 'some', False, rate, 20 + rate, 20 + rate, 0.5, decoded)
      for protocol in comparison.PROTOCOLS
      for codec, rate in ((comparison.OURS, 0.5), ('JPEG', 0.7), ('JPEG', 1.0))]


def test_between_settings_lie_straight_lines_and_beyond_them_nothing():
  point = lambda rate, psnr_db: comparison.Point(
      'single', 'JPEG', '', False, rate, psnr_db, 0.0, 0.5, None)
  found = [point(0.4, 30.0), point(0.1, 20.0), point(0.2, 19.0), point(0.3, 19.5)]
  assert comparison.curve(found) == [(0.1, 20.0), (0.4, 30.0)]
  assert comparison.interpolated(found, 0.2) == pytest.approx(25)  # half way, of a logarithm
  assert comparison.interpolated(found, 0.4) == pytest.approx(30)
  for rate in (0.09, 0.41):
    assert comparison.interpolated(found, rate) is None
  assert comparison.interpolated([], 0.2) is None


def test_each_measure_is_that_of_the_settings_best_for_it():
  point = lambda setting, rate, psnr_db, similarity: comparison.Point(
      'single', 'AVIF', setting, False, rate, psnr_db, 0.0, similarity, None)
  found = [point('psnr, 1', 0.1, 30.0, 0.90), point('iq, 1', 0.1, 29.0, 0.95),
           # Of another kind, between two, and better than the lower one: it is no step down.
           point('iq, 2', 0.2, 31.0, 0.98),
           point('psnr, 2', 0.4, 36.0, 0.96), point('iq, 3', 0.4, 35.0, 0.99)]
  assert comparison.curve(found) == [
      (0.1, 30.0), (0.2, pytest.approx(33)), (0.4, 36.0)]
  assert comparison.curve(found, 'similarity') == [(0.1, 0.95), (0.2, 0.98), (0.4, 0.99)]
  assert comparison.interpolated(found, 0.2) == pytest.approx(33)
  assert comparison.interpolated(found, 0.2, 'similarity') == pytest.approx(0.98)
  table = output.tables(found, [], 'MS-SSIM')
  assert '| 0.2 | 33.00 |' in table and '| 0.2 | 0.980 |' in table and 'Speed' not in table


def test_larger_and_no_better_points_are_left_out():
  shown = [np.full((8, 8, 3), 100, np.uint8)] * 2
  decoded = [np.full((8, 8, 3), 102, np.uint8)] * 2  # 42.1 dB
  points = [comparison.Point(
      'single', comparison.OURS, '', False, 8 * 50 / 384, psnr_db, 0.0, 0.5, None)
      for psnr_db in (40.0, 42.0)]
  assert comparison._improves(points, 50, decoded, shown)
  points[0] = points[0]._replace(psnr_db=43.0)
  assert comparison._improves(points, 49, decoded, shown)
  assert not comparison._improves(points, 50, decoded, shown)
  assert not comparison._improves(points, 51, decoded, shown)


def test_pictures_of_several_sizes_show_what_all_have_in_the_middle(tmp_path):
  shown = [np.full((300, 40, 3), 7, np.uint8), np.full((30, 280, 3), 9, np.uint8)]
  found = [p._replace(decoded=shown, bits_per_dim=rate) for p, rate in zip(
      points()[3:], (0.1, 0.5, 0.7), strict=True)]
  output.write(str(tmp_path), found, 'SSIM', shown)
  pixels = np.asarray(Image.open(tmp_path / 'study_images.png').convert('L'))
  # The originals; at 0.2 bits/dim ours, and no JPEG; at 0.8 both.
  column = pixels[:, int(0.85 * pixels.shape[1])].astype(int)
  rows = [column[int((row + 0.5) * len(column) / 5)] for row in range(5)]
  assert rows == [9, 9, 255, 9, 9]
  assert not (tmp_path / 'study_figure_3.png').exists()


def test_files_of_a_study_are_replaced_and_no_others(tmp_path):
  shown = np.zeros((10, 8, 8, 3), np.uint8)
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
  with pytest.raises(UserError, match='study.csv and 3 more would be overwritten.*--overwrite'):
    output.check(str(out))
  output.check(str(out), overwrite=True)
  (out / 'study.csv').unlink()
  with pytest.raises(UserError, match='study.png and 2 more would be overwritten'):
    output.check(str(out))
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='file is no folder'):
    output.check(str(tmp_path / 'file'))


def test_of_lossless_points_alone_there_are_numbers_alone(tmp_path):
  found = [p._replace(lossless=True, decoded=None) for p in points()]
  assert output.write(str(tmp_path), found, 'SSIM', []) == ['study.csv']
  text = output.tables(found, [], 'SSIM')
  assert 'Lossy' not in text and '| single | 0.5000 | 1.0000 |' in text


def test_points_come_back_from_their_file(tmp_path):
  found = [*points(), points()[0]._replace(
      lossless=True, psnr_db=np.inf, mean_psnr_db=np.inf, similarity=1.0)]
  path = tmp_path / 'study.csv'
  path.write_text(output.to_csv(found, 'SSIM'), newline='')
  assert output.from_csv(str(path), 'SSIM') == [p._replace(decoded=None) for p in found]
  for metric, text, words in (
      ('MS-SSIM', path.read_text(), 'no study.csv of a study by MS-SSIM'),
      ('SSIM', 'someone, else', 'no study.csv of a study by SSIM'),
      ('SSIM', path.read_text() + 'sheet,x,y,0,much,1,1,1', 'cannot be read.*much'),
      ('SSIM', path.read_text() + 'sheet,x', 'cannot be read'),
      ('SSIM', None, 'cannot be read.*No such file')):
    path.unlink() if text is None else path.write_text(text, newline='')
    with pytest.raises(UserError, match=words):
      output.from_csv(str(path), metric)


def test_pictures_leave_out_what_comes_from_a_file(tmp_path):
  shown = np.full((10, 8, 8, 3), 9, np.uint8)
  found = [p._replace(decoded=None) if p.codec == comparison.OURS else p for p in points()]
  assert output.write(str(tmp_path), found, 'SSIM', shown) == list(output.FILES[:3])
  rows = output.images(found, shown), output.images(points(), shown)
  heights = [Image.open(io.BytesIO(row)).height for row in rows]
  assert heights[0] / heights[1] == pytest.approx(3 / 5, rel=0.1)  # the original, JPEG at two rates


def test_programs_are_told_the_same():
  found = output.fields(points(), [], 'SSIM')
  assert len(found['points']) == len(points()) and found['speeds'] == []
  for fields, point in zip(found['points'], points(), strict=True):
    assert fields['bits_per_dim'] == point.bits_per_dim and fields['SSIM'] == point.similarity
    assert fields['psnr_db'] == (point.psnr_db if np.isfinite(point.psnr_db) else None)
  json.dumps(found, allow_nan=False)


def test_sheets_larger_than_the_classical_codecs_hold_are_refused_at_once():
  images = list(np.zeros((10, 1, 1639, 1), np.uint8))
  with pytest.raises(UserError, match='16390 pixels a side, and WebP holds 16383'):
    comparison.compare(None, images)

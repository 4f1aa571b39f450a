"""The study's real command line, in child processes; tests/codec/test_files.py has all of it."""

import csv
import os
import subprocess
import sys

import numpy as np
from PIL import Image

from tests.program import QUICK, ROOT

HEADER = 'protocol,codec,setting,lossless,bits_per_dim,psnr_db,mean_psnr_db,SSIM\n'
ROWS = ('single,ours,lossless,1,2.50000,inf,inf,1.00000\n'
        'single,"ours, effort 1",lossless,1,2.25000,inf,inf,1.00000\n'
        'sheet,ours,lossless,1,2.75000,inf,inf,1.00000\n'
        'single,PNG,optimised,1,0.00001,inf,inf,1.00000\n')


def study(*arguments):
  done = subprocess.run(
      [sys.executable, '-m', 'conv_draw.codec.study', *map(str, arguments)], cwd=ROOT,
      env=os.environ | {'XLA_FLAGS': QUICK}, text=True, capture_output=True, timeout=300)
  return done.returncode, done.stdout, done.stderr


def test_ours_of_an_earlier_study_beside_the_others_of_now(tmp_path):
  folder, earlier = tmp_path / 'images', tmp_path / 'earlier.csv'
  folder.mkdir()
  pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
  Image.fromarray(pixels).save(folder / 'a.png')
  flags = (f'--images={folder}', '--workdir=conv_draw/pretrained/photos_lossless',
           f'--out={tmp_path}/out', f'--ours={earlier}')

  status, out, error = study(*flags)
  assert status == 2 and out == '' and len(error.splitlines()) == 1, error
  assert f'{earlier} cannot be read' in error and not (tmp_path / 'out').exists()

  earlier.write_text(HEADER + ROWS)
  status, out, error = study(*flags)
  assert status == 0, error
  assert 'Speed' not in out and '| single | 2.5000 | 2.2500 |' in out
  with open(tmp_path / 'out/study.csv') as f:
    rows = list(csv.reader(f))[1:]
  # Ours as it was, of the protocol of a folder; the others, and PNG again, of this image.
  assert rows[:2] == list(csv.reader(ROWS.splitlines()[:2]))
  assert [row[1] for row in rows[2:]] == ['PNG', 'WebP', 'JPEG 2000', 'JPEG XL']
  assert all(7 < float(row[4]) < 12 for row in rows[2:])

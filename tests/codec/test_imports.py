"""The codec needs little: not what training needs, and no Unix."""

import subprocess
import sys

import numpy as np
from PIL import Image

from tests.program import ROOT

# What there is not on every machine, or takes long to import.
HIDDEN = ('fcntl', 'orbax', 'optax', 'tensorboardX', 'tqdm', 'tensorflow', 'tensorflow_datasets',
          'grain', 'matplotlib', 'sklearn')
PROGRAM = f'''
import runpy, sys
sys.modules.update(dict.fromkeys({HIDDEN!r}))
sys.argv[0] = 'conv_draw.codec'
runpy.run_module('conv_draw.codec', run_name='__main__')
'''


def run(*arguments):
  return subprocess.run([sys.executable, '-c', PROGRAM, *map(str, arguments)], cwd=ROOT,
                        capture_output=True, text=True)


def test_images_are_coded_without_what_training_needs(tmp_path):
  image = np.random.default_rng(0).integers(90, 150, (9, 14, 3)).astype(np.uint8)
  Image.fromarray(image).save(tmp_path / 'x.png')
  coded, decoded = tmp_path / 'x.cdraw', tmp_path / 'y.png'
  done = run('encode', tmp_path / 'x.png', coded, '--lossless')
  assert done.returncode == 0, done.stderr
  done = run('decode', coded, decoded)
  assert done.returncode == 0, done.stderr
  np.testing.assert_array_equal(np.asarray(Image.open(decoded)), image)

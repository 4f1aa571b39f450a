"""The codec needs little: not what training needs, and no Unix."""

import io
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


def run(*arguments, given=None):
  return subprocess.run([sys.executable, '-c', PROGRAM, *map(str, arguments)], cwd=ROOT,
                        capture_output=True, input=given)


def test_images_go_through_pipes_without_what_training_needs(tmp_path):
  image = np.random.default_rng(0).integers(90, 150, (9, 14, 3)).astype(np.uint8)
  Image.fromarray(image).save(tmp_path / 'x.png')
  coded = run('encode', '-', '-', '--lossless', given=(tmp_path / 'x.png').read_bytes())
  assert coded.returncode == 0, coded.stderr
  assert b'lossless' in coded.stderr and b'-: 14x9' in coded.stderr
  decoded = run('decode', '-', '-', given=coded.stdout)
  assert decoded.returncode == 0, decoded.stderr
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(decoded.stdout))), image)
  folder = run('encode', tmp_path, '-', '--lossless')
  assert folder.returncode == 2 and b'is a folder' in folder.stderr and not folder.stdout

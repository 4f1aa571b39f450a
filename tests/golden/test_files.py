"""Files that earlier versions wrote decode to the pixels that they decoded to then.

The command line is called, so that nothing here depends on how the codec is divided.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conv_draw.codec.coder import Coder
from conv_draw.workdir import published
from tests.program import ROOT, environment

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, 'files.json')) as f:
  FILES = json.load(f)
# A lossy file's latents decode exactly; what is shown of them is computed in floats, and rounded.
MOST_OFF, SHARE_OFF = 1, 0.002


def decoded(*arguments):
  process = subprocess.run(
      [sys.executable, '-m', 'conv_draw.codec', 'decode', *arguments], cwd=ROOT,
      env=environment(), text=True, capture_output=True, timeout=600)
  assert process.returncode == 0, process.stderr


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Where all golden files have been decoded to."""
  path = tmp_path_factory.mktemp('golden')
  decoded(os.path.join(HERE, 'files'), str(path))
  decoded(os.path.join(HERE, 'cut'), str(path), '--partial')
  return path


def pixels(path):
  return np.asarray(Image.open(path)).astype(int)


def test_every_file_is_listed():
  names = {name for part in ('files', 'cut') for name in os.listdir(os.path.join(HERE, part))}
  assert names == {f'{name}.cdraw' for name in FILES}


@pytest.mark.parametrize('name', FILES)
def test_file_decodes_to_its_pixels(name, folder):
  expected = pixels(os.path.join(HERE, FILES[name]['decodes_to']))
  found = pixels(folder / f'{name}.png')
  assert found.shape == expected.shape
  off = abs(found - expected)
  if FILES[name]['lossless']:
    assert not off.any()
  else:
    assert off.max() <= MOST_OFF and (off > 0).mean() <= SHARE_OFF


# Bits-back archives promise the machine and the JAX that wrote them alone. Of the header, the
# number of initial bits and the version of JAX (bytes 21 to 24, and behind the name) may differ.
@pytest.mark.parametrize('name, shape, head, tail', [
    ('cifar10', (2, 32, 32, 3), '9343410a0101020000002000000020000000030001',
     '00000000a767d5d5c30bbb5b070063696661723130'),
    ('omniglot', (2, 28, 28, 1), '9343410a0101020000001c0000001c000000010001',
     '000000004eeb422d0f6eab9308006f6d6e69676c6f74')])
def test_archive_has_its_header_and_comes_back(name, shape, head, tail):
  rng = np.random.default_rng(0)
  images = (255 * (rng.random(shape) < 0.1)).astype(np.uint8)
  coder = Coder.load(published.path(name))
  data, _, _ = coder.archive(images, ['a.png', 'b.png'])
  assert data.hex()[: len(head)] == head and data.hex()[50 : 50 + len(tail)] == tail
  back, names = coder.extract(data)
  np.testing.assert_array_equal(back, images)
  assert list(names) == ['a.png', 'b.png']

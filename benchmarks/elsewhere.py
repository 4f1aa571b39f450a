"""Codes images in one environment and decodes them in another: what two machines would do.

  python -m benchmarks.elsewhere --workdir=conv_draw/pretrained/cifar10_codec --images=300 \\
      --data_dir=DIR --here=JAX_PLATFORMS=cpu --there=JAX_PLATFORMS=cuda
  python -m benchmarks.elsewhere --workdir=conv_draw/pretrained/photos_lossy --images=FOLDER \\
      --crop=256 --there=XLA_FLAGS=--xla_cpu_max_isa=AVX2

Each environment is a few variables, of a process of its own, and an interpreter: that of the other
one may have another JAX (--there_python). Both write files of all images, lossy and lossless as far
as the model has such, and both read all files. Prints a line of JSON for each kind of file and
direction: how many failed, how many of the decoded values differ from those that the writer
decodes, and by how much the reader's priors are off at most, in units of what the corrections in a
file allow for (beyond 1, one may be rounded otherwise, and its file then fails; the priors of files
that fail are not seen).
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np
from absl import flags

from benchmarks import apart
from conv_draw import command_line
from conv_draw.errors import UserError

PROGRAM = 'benchmarks.elsewhere'

WORKDIR = flags.DEFINE(command_line.Path(), 'workdir', None, 'The run whose model codes.')
IMAGES = flags.DEFINE(
    command_line.Path(), 'images', '100', 'The first so many test images; or a folder of images.')
DATA_DIR = flags.DEFINE(
    command_line.Path(), 'data_dir', None, "Instead of the run's own data.data_dir.")
CROP = flags.DEFINE_integer(
    'crop', 0, 'Only so many pixels a side, in the middle of each; 0: all.', lower_bound=0)
HERE = flags.DEFINE_string('here', '', 'Variables of one environment: "NAME=VALUE NAME=VALUE".')
THERE = flags.DEFINE_string('there', None, 'And of the other; may be empty.')
THERE_PYTHON = flags.DEFINE_string(
    'there_python', sys.executable, 'The interpreter of the other, which may have another JAX.')
WRITE = flags.DEFINE_string('write', None, 'Of the processes that this starts: files to there.')
READ = flags.DEFINE_list('read', [], 'Likewise: files from these folders.')
NAME = flags.DEFINE_string('name', None, 'Likewise: which environment this is.')
KINDS = {'lossy': False, 'lossless': True}


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, '--workdir and --images'):
    command_line.check_given(argv, WORKDIR, THERE)
    if WRITE.value:
      write(WRITE.value)
    elif READ.value:
      read(READ.value)
    else:
      compare()


def compare():
  """Starts the processes one after the other, and prints what came of them."""
  environments = {'here': HERE.value, 'there': THERE.value}
  with tempfile.TemporaryDirectory() as folder:
    at = {name: os.path.join(folder, name) for name in environments}
    for name in environments:
      start(name, f'--write={at[name]}')
    for name in environments:
      start(name, f'--read={",".join(at.values())}')
    for kind in KINDS:
      for writer, reader in (('here', 'there'), ('there', 'here')):
        if os.path.isdir(path := os.path.join(at[writer], kind)):
          print(json.dumps({
              'files': kind, 'written': environments[writer], 'read': environments[reader],
              **apart.differences(path, writer, reader)}), flush=True)


def start(name, what):
  """One process of an environment.

  Raises:
    UserError: it failed, and has said why.
  """
  python, variables = {
      'here': (sys.executable, HERE.value), 'there': (THERE_PYTHON.value, THERE.value)}[name]
  variables = dict(v.partition('=')[::2] for v in shlex.split(variables))
  status = subprocess.run(
      [python, '-m', PROGRAM, *sys.argv[1:], f'--name={name}', what],
      env=os.environ | variables).returncode
  if status:
    raise UserError(f'what ran --{name} has failed (status {status})')


def images_of(model):
  """[H, W, C] uint8 each."""
  from conv_draw.codec.study import comparison
  if IMAGES.value.isdecimal():
    split = comparison.test_split(WORKDIR.value, DATA_DIR.value)
    images = list(split.fetch(np.arange(min(int(IMAGES.value), len(split)))))
  else:
    images = comparison.folder(IMAGES.value, model)
  return [_middle(image, CROP.value) for image in images] if CROP.value else images


def _middle(image, side):
  top, left = (max(0, n - side) // 2 for n in image.shape[:2])
  return image[top : top + side, left : left + side]


def write(folder):
  """Files FOLDER/KIND/NUMBER of all images."""
  from conv_draw.codec.coder import Coder
  coder = Coder.load(WORKDIR.value)
  kinds = [kind for kind, lossless in KINDS.items()
           if not (coder.lossy_only if lossless else coder.lossless_only)]
  for kind in kinds:
    os.makedirs(os.path.join(folder, kind))
  for number, image in enumerate(images_of(coder.model)):
    for kind in kinds:
      with open(os.path.join(folder, kind, str(number)), 'wb') as f:
        f.write(coder.encode(image, lossless=KINDS[kind]).data)


def read(folders):
  """Decodes all of them; beside each file, what came of it here, unless it fails."""
  from conv_draw.codec.coder import Coder
  coder = Coder.load(WORKDIR.value)
  priors = apart.recorded_priors()
  for folder in folders:
    for kind in os.listdir(folder):
      numbers = [name for name in os.listdir(os.path.join(folder, kind)) if name.isdecimal()]
      for number in numbers:
        path = os.path.join(folder, kind, number)
        priors.clear()
        with open(path, 'rb') as f:
          try:
            image, *_ = coder.decode(f.read())
          except UserError as e:
            print(f'{path}: {e}', file=sys.stderr)
            continue
        seen = np.concatenate(priors, 1) if priors else np.zeros((2, 0), np.float32)
        np.savez(f'{path}.{NAME.value}.npz', image=image, priors=seen)


if __name__ == '__main__':
  command_line.start(PROGRAM, main)

"""Codes images in one environment and decodes them in another, as on two machines.

  python -m benchmarks.elsewhere --workdir=conv_draw/pretrained/cifar10_codec --images=300 \\
      --data_dir=DIR --here=JAX_PLATFORMS=cpu --there=JAX_PLATFORMS=cuda
  python -m benchmarks.elsewhere --workdir=conv_draw/pretrained/photos_lossy --images=FOLDER \\
      --crop=256 --there=XLA_FLAGS=--xla_cpu_max_isa=AVX2

An environment is a process with its own environment variables and interpreter: the other one may
have another JAX (--there_python). Both write files of all images, lossy and lossless if the model
supports both, and both read all files. The program prints a line of JSON for each kind of file and
direction: the number of files that failed, the number of decoded values that differ from those that
the writer decodes, and the largest error of the reader's priors, in units of the error that the
side information of a file corrects. Beyond 1, a prior may be rounded differently, and its file then
fails; priors of files that fail are not counted.
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

WORKDIR = flags.DEFINE(command_line.Path(), 'workdir', None, 'The run whose model to use.')
IMAGES = flags.DEFINE(
    command_line.Path(), 'images', '100', 'Number of test images, or a folder of images.')
DATA_DIR = flags.DEFINE(
    command_line.Path(), 'data_dir', None, "Overrides the run's data.data_dir.")
CROP = flags.DEFINE_integer(
    'crop', 0, 'Side of the central square of each image; 0: all of it.', lower_bound=0)
HERE = flags.DEFINE_string('here', '', 'Variables of one environment: "NAME=VALUE NAME=VALUE".')
THERE = flags.DEFINE_string('there', None, 'Variables of the other environment; may be empty.')
THERE_PYTHON = flags.DEFINE_string(
    'there_python', sys.executable, 'The interpreter of the other environment.')
WRITE = flags.DEFINE_string('write', None, 'Internal: writes files to this folder.')
READ = flags.DEFINE_list('read', [], 'Internal: reads files from these folders.')
NAME = flags.DEFINE_string('name', None, 'Internal: name of this environment.')
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
  """Starts the processes one after the other, and prints the differences."""
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
  """Runs one process of an environment.

  Raises:
    UserError: it failed, and has printed the reason.
  """
  python, variables = {
      'here': (sys.executable, HERE.value), 'there': (THERE_PYTHON.value, THERE.value)}[name]
  variables = dict(v.partition('=')[::2] for v in shlex.split(variables))
  status = subprocess.run(
      [python, '-m', PROGRAM, *sys.argv[1:], f'--name={name}', what],
      env=os.environ | variables).returncode
  if status:
    raise UserError(f'the process of --{name} has failed (status {status})')


def images_of(model):
  """The images to code, a list of uint8 [H, W, C]."""
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
  """Codes all images to files FOLDER/KIND/NUMBER."""
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
  """Decodes all files. The pixels and priors of each are written beside it, unless it fails."""
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

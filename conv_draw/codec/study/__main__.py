"""Rate and distortion of our files beside JPEG, JPEG 2000, WebP, AVIF, JPEG XL and PNG.

  python -m conv_draw.codec.study [--workdir=runs/NAME] [--data_dir=DIR] [--images=100] [--out=DIR]
      [--protocol=sheet] [--ours=FILE] [--overwrite]
  python -m conv_draw.codec.study --images=FOLDER [--workdir=runs/NAME] [--effort=2] [--out=DIR]
  python -m conv_draw.codec.study RUN RUN [...] [--data_dir=DIR] [--images=100] [--out=DIR]

The images are the first of the test split of the model's data, or all in a folder, each in a file
of its own. Without --workdir it studies models that come with the package: of CIFAR-10, or, for a
folder, the two of photographs. Of several runs, such as those of several beta, the lossy files are
one curve, at each rate that of the run and the number of latent groups that serve best.

Sizes are those of whole files. Two protocols: 'sheet' stores 100 images as one picture, so that
small images do not pay for a header each (the paper's protocol for the classical codecs; ours codes
the images on it one by one, as tiles); 'single' stores each in a file of its own. Writes study.csv,
study.png, study_images.png and, of sheets, study_figure_3.png, which is the paper's figure 3 from
files, to DIR (default: the run's folder `study`) and prints the tables.
Those of an earlier study are replaced; other files of these names only with --overwrite.
With --ours=FILE, the study.csv of an earlier study of the same model and images, our points are
those in it, and the classical codecs alone are run again.
"""

import json
import os
import sys

import numpy as np
from absl import flags

from conv_draw import command_line, quality
from conv_draw.codec import coder as coder_lib
from conv_draw.codec import files
from conv_draw.codec.study import comparison, output
from conv_draw.errors import UserError
from conv_draw.report import pictures
from conv_draw.workdir import published

PROGRAM = 'conv_draw.codec.study'
CIFAR10_MODEL = 'cifar10_codec'
WORKDIR = flags.DEFINE(
    command_line.Path(), 'workdir', None,
    'The run whose model is studied; default: conv_draw/pretrained/cifar10_codec, or '
    'photos_lossy and photos_lossless of a folder.')
OUT = flags.DEFINE(
    command_line.Path(), 'out', None,
    'Where the results go; default WORKDIR/study; of a model of the package runs/NAME/study, and '
    'of a folder by both of them runs/photos/study.')
IMAGES = flags.DEFINE(
    command_line.Path(), 'images', '100', 'Test images, the first so many; or a folder of images.')
flags.register_validator(
    IMAGES.name, lambda value: value.strip('0'), 'give a number above 0, or a folder')
DATA_DIR = flags.DEFINE(
    command_line.Path(), 'data_dir', None, "Instead of the run's own data.data_dir.")
EFFORT = flags.DEFINE_integer(
    'effort', 0, 'Of encode --lossless: also with each one up to this.', lower_bound=0,
    upper_bound=2)
PROTOCOL = flags.DEFINE_enum(
    'protocol', None, comparison.PROTOCOLS, 'Of a test split: this one alone; default both.')
OURS = flags.DEFINE(
    command_line.Path(), 'ours', None,
    'study.csv of an earlier study: our points from it; the classical codecs alone are run.')
JSON = flags.DEFINE_bool('json', False, 'Print JSON in place of the tables.')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace files that are not of a study.')


def progress(text):
  if sys.stderr.isatty():
    print(f'\r{text:60}', end='', file=sys.stderr, flush=True)


def _of_each(coders, images, protocols, metric):
  """([`comparison.Point`], [`comparison.Speed`]) of `comparison.compare` of each model."""
  if OURS.value:
    earlier = output.from_csv(os.path.expanduser(OURS.value), metric)
    points = [point for point in earlier
              if point.protocol in protocols and point.codec.startswith(comparison.OURS)]
    return points + [point for coder in coders
                     for point in comparison.rivals(coder, images, protocols, progress)], []
  points, speeds = [], []
  for coder in coders:
    effort = EFFORT.value if coder.head or len(coders) == 1 else 0
    more_points, more_speeds = comparison.compare(coder, images, protocols, effort, progress)
    points += more_points
    speeds += more_speeds
  return points, speeds


def main(argv):
  several = argv[1:]
  of_folder = not IMAGES.value.isdecimal()
  models = (files.LOSSY_MODEL, files.LOSSLESS_MODEL) if of_folder else (CIFAR10_MODEL,)
  # The shell leaves the ~ of --workdir=~/run to the program.
  workdirs = several or ([os.path.expanduser(WORKDIR.value)] if WORKDIR.value
                         else list(map(published.path, models)))
  name = 'several' if several else 'photos' if of_folder else CIFAR10_MODEL
  run = os.path.expanduser(WORKDIR.value or f'runs/{name}')
  if published.is_one(run):  # nothing is written into what comes with the package
    run = os.path.join('runs', os.path.basename(os.path.abspath(run)))
  out = os.path.expanduser(OUT.value or os.path.join(run, 'study'))
  with command_line.errors_in_one_line(PROGRAM, out):
    if several and (of_folder or WORKDIR.value or OURS.value or EFFORT.value):
      raise UserError(
          'runs as arguments go with neither --workdir, --ours, --effort nor a folder of images: '
          'name one run by --workdir=runs/NAME')
    output.check(out, OVERWRITE.value)
    coders = list(map(coder_lib.Coder.load, workdirs))
    for coder in coders:
      coder.check_posterior(coder_lib.QUANTISED)
    if of_folder:
      images, protocols = comparison.folder(IMAGES.value, coders[0].model), ('single',)
      what = f'{IMAGES.value}: {len(images)} images'
    else:
      split = comparison.test_split(workdirs[0], DATA_DIR.value)
      protocols = (PROTOCOL.value,) if PROTOCOL.value else comparison.PROTOCOLS
      images = list(split.fetch(np.arange(min(int(IMAGES.value), len(split)))))
      what = f'{split.name}: {len(images)} of {len(split)} images'
    shown = [pictures.to_bytes(image, coders[0].model.pixels.grey_levels) for image in images]
    metric = quality.metric(shown)
    if several:
      points, speeds = comparison.compare_lossy(coders, images, protocols, progress)
    else:
      points, speeds = _of_each(coders, images, protocols, metric)
    names = output.write(out, points, metric, shown)
    if JSON.value:
      print(json.dumps(output.fields(points, speeds, metric)))
      return
    print(f'\n{what}, model {" and ".join(coder.name for coder in coders)}\n')
    print(output.tables(points, speeds, metric))
    print(f'\nwrote {", ".join(names)} to {out}')


if __name__ == '__main__':
  command_line.start(PROGRAM, main)

"""Measures the speed and memory of reading and decoding data sets on disk, on one core.

    python -m benchmarks.input                     # half an hour, and 4 GB in a temporary directory
    python -m benchmarks.input --directory=DIR     # keeps the data sets there for the next time

Generates ImageNet-like sets (crops of scikit-learn's photographs, in array_record files) of
--images and of a tenth of that, takes training batches of --images images in all from each, and
prints a Markdown table. A separate process with its workers measures each row, pinned to the first
core that this program may use. Linux only.
"""

import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np
from absl import flags

from conv_draw import command_line
from conv_draw.data import prepare_imagenet, sets
from conv_draw.data.batches import Batches
from conv_draw.errors import UserError
from experiments import imagenet32

PROGRAM = 'benchmarks.input'

IMAGES = flags.DEFINE_integer('images', 200_000, 'Images in the larger set of each size.')
SIZES = flags.DEFINE_list('sizes', ['32', '64'], 'Pixels, height and width.')
WORKERS = flags.DEFINE_list('workers', ['0', '1', '2'], 'config.data.workers; 0 is a thread.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images in a batch.')
DIRECTORY = flags.DEFINE(
    command_line.Path(), 'directory', None, 'Where the sets are kept.')
FEED = flags.DEFINE_float(
    'feed', None, 'Images/s of one accelerator: adds a column of the cores that feed it.')
MEASURE = flags.DEFINE_string(
    'measure', None, 'Measures only this TFDS directory, and prints one line of JSON.')
flags.register_validator(
    SIZES, lambda sizes: set(sizes) <= {'32', '64'}, 'must be of 32 and 64')
flags.register_validator(
    WORKERS, lambda counts: all(n.isdigit() for n in counts), 'must be whole numbers')

WARM_UP = 32  # batches, until files are open and all workers have started
TICK = 1 / os.sysconf('SC_CLK_TCK')  # seconds: the unit of CPU time
COLUMNS = (
    'pixels', 'images in the set', 'bytes each', 'workers', 'images/s', 'images/s of CPU time',
    'peak memory, MiB', 'of that private', 'peak of a worker', 'of that private')


def generate(data_dir, size, count, validation=100):
  """Writes a data set with `conv_draw.prepare_imagenet`, from generated archives."""
  from PIL import Image
  from sklearn import datasets
  photographs = [Image.fromarray(pixels) for pixels in datasets.load_sample_images().images]
  rng = np.random.default_rng(size)
  with tempfile.TemporaryDirectory(prefix='conv_draw_archives_') as archives:
    for name, images in (('train', count), ('valid', validation)):
      with tarfile.open(f'{archives}/{name}_{size}x{size}.tar', 'w') as archive:
        for index in range(images):
          photograph = photographs[rng.integers(len(photographs))]
          side = rng.integers(2 * size, min(photograph.size), endpoint=True)
          left, top = (rng.integers(n - side, endpoint=True) for n in photograph.size)
          png = io.BytesIO()
          photograph.resize((size, size), Image.Resampling.BOX,
                            box=(left, top, left + side, top + side)).save(png, 'PNG')
          member = tarfile.TarInfo(f'{name}_{size}x{size}/{index:07d}.png')
          member.size = png.tell()
          png.seek(0)
          archive.addfile(member, png)
    prepare_imagenet.prepare(archives, size, data_dir)


def measure(data_dir, size, workers, batch_size, count):
  """A row of the table, as a dict: takes batches of `count` images in all."""
  config = imagenet32.get_config()
  config.data.update(name=f'imagenet{size}', data_dir=data_dir)
  images = sets.load(config.data, 'train')
  batches = Batches(images, batch_size, seed=0, workers=workers)
  for step in range(WARM_UP):
    batches.take(step, 0)
  mine, theirs = os.getpid(), [process.pid for process in multiprocessing.active_children()]
  used, began = sum(map(cpu_seconds, [mine, *theirs])), time.perf_counter()
  steps = -(-count // batch_size)
  for step in range(WARM_UP, WARM_UP + steps):
    batches.take(step, 0)
  seconds = time.perf_counter() - began
  used = max(sum(map(cpu_seconds, [mine, *theirs])) - used, TICK)
  row = {
      'images': len(images), 'images_per_second': steps * batch_size / seconds,
      'images_per_cpu_second': steps * batch_size / used, 'memory_mib': memory_mib(mine),
      'worker_memory_mib': max(map(memory_mib, theirs), default=None)}
  batches.close()
  return row


def cpu_seconds(pid):
  """CPU time of a process so far, over all threads."""
  with open(f'/proc/{pid}/stat') as file:
    fields = file.read().rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) * TICK  # user and system


def memory_mib(pid):
  """(peak resident memory, current private memory) of a process."""
  read = lambda name, keys: sum(
      int(line.split()[1]) for line in open(f'/proc/{pid}/{name}') if line.startswith(keys)) / 1024
  return read('status', 'VmHWM'), read('smaps_rollup', 'Private')


def bytes_each(data_dir, size, count):
  """Mean size of a training image on disk."""
  directory = os.path.join(data_dir, prepare_imagenet.DATA_SET, f'{size}x{size}')
  files = (os.path.join(parent, name) for parent, _, names in os.walk(directory) for name in names)
  return sum(os.path.getsize(file) for file in files if '-train.' in file) / count


def run(directory):
  """Generates sets that are missing in `directory`, measures all, and prints the table."""
  columns = COLUMNS + ((f'cores that feed {FEED.value:g} images/s',) if FEED.value else ())
  rows = []
  for size in map(int, SIZES.value):
    for count in (IMAGES.value // 10, IMAGES.value):
      data_dir = os.path.join(directory, f'{size}x{size}_{count}')
      if not os.path.exists(data_dir):
        began = time.perf_counter()
        generate(data_dir, size, count)
        print(f'{count:,} images of {size}x{size} generated in {time.perf_counter() - began:.0f} s',
              file=sys.stderr)
      for workers in map(int, WORKERS.value):
        out = subprocess.run(
            [sys.executable, '-m', PROGRAM, f'--measure={data_dir}', f'--sizes={size}',
             f'--workers={workers}', f'--batch_size={BATCH_SIZE.value}',
             f'--images={IMAGES.value}'], stdout=subprocess.PIPE, text=True)
        if out.returncode:
          raise UserError(f'measuring {data_dir} has failed (status {out.returncode})')
        row = json.loads(out.stdout.splitlines()[-1])
        worker = [f'{mib:.0f}' for mib in row['worker_memory_mib'] or ()] or ['', '']
        rows.append([
            f'{size}x{size}', f'{row["images"]:,}', f'{bytes_each(data_dir, size, count):,.0f}',
            workers, f'{row["images_per_second"]:,.0f}', f'{row["images_per_cpu_second"]:,.0f}',
            *(f'{mib:.0f}' for mib in row['memory_mib']), *worker])
        if FEED.value:
          rows[-1].append(f'{FEED.value / row["images_per_cpu_second"]:.3g}')
        print(*rows[-1], file=sys.stderr)
  for row in (columns, ['---'] * len(columns), *rows):
    print('|', ' | '.join(map(str, row)), '|')


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, DIRECTORY.value or 'the temporary directory'):
    command_line.check_given(argv)
    choose()


def choose():
  """Measures one set or all."""
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  if MEASURE.value:
    print(json.dumps(measure(
        MEASURE.value, int(SIZES.value[0]), int(WORKERS.value[0]), BATCH_SIZE.value,
        IMAGES.value)))
  elif DIRECTORY.value:
    run(DIRECTORY.value)
  else:
    with tempfile.TemporaryDirectory(prefix='conv_draw_input_') as directory:
      run(directory)


if __name__ == '__main__':
  command_line.start(PROGRAM, main)

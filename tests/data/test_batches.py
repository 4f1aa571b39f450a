"""Batches: the same from a thread or from any number of workers, which leave nothing behind."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks import input as input_benchmark
from conv_draw.data import prepare_imagenet, sets
from conv_draw.data.batches import Batches
from conv_draw.errors import UserError
from conv_draw.training import loop
from experiments import imagenet32
from tests.data.data_sets import config
from tests.program import ROOT, saved

SCRIPT = '''
import signal, sys, time
from conv_draw.data import sets
from conv_draw.data.batches import Batches
from experiments import imagenet32

def main():
  signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a script's background jobs
  config = imagenet32.get_config()
  config.data.data_dir = sys.argv[1]
  batches = Batches(sets.load(config.data, 'train'), 8, seed=0, workers=2)
  print('starting', flush=True)
  try:
    for step in range(2):
      batches.take(step, 0)
    print('started', flush=True)
    time.sleep(60)
  finally:
    batches.close()

if __name__ == '__main__':
  main()
'''


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A TFDS directory of 50 images in array_record files of 20."""
  directory = tmp_path_factory.mktemp('imagenet')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(prepare_imagenet, 'IMAGES_PER_SHARD', 20)
    input_benchmark.generate(str(directory), size=32, count=50, validation=1)
  return directory


def load(data_dir):
  config = imagenet32.get_config()
  config.data.data_dir = str(data_dir)
  return sets.load(config.data, 'train')


@pytest.fixture
def make():
  """`Batches`, closed after the test."""
  made = []

  def make(*args, **kwargs):
    made.append(Batches(*args, **kwargs))
    return made[-1]

  yield make
  for batches in made:
    batches.close()


def workers():
  return [process.pid for process in multiprocessing.active_children()]


def is_there(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


# The batches of a thread ------------------------------------------------------------------------


def test_batch_is_a_function_of_seed_reverts_and_step(config, make):
  images = sets.load(config.data, 'train')
  one, two = (make(images, 8, seed=0) for _ in range(2))
  forward = [one.take(step, 0) for step in range(4)]
  np.testing.assert_array_equal(two.take(3, 0), forward[3])  # without its predecessors
  assert not (two.take(3, 1) == forward[3]).all()
  assert not (make(images, 8, seed=1).take(3, 0) == forward[3]).all()


def test_slices_of_all_processes_are_the_batch_and_each_reads_its_own_alone(config, make):
  images = sets.load(config.data, 'train')
  read = []
  watched = dataclasses.replace(
      images, fetch=lambda indices: (read.append(len(indices)), images.fetch(indices))[1])
  whole = make(images, 64, seed=0)
  parts = [make(watched, 64, 0, process_index=p, process_count=4) for p in range(4)]
  for step, reverts in ((0, 0), (5, 0), (5, 1)):
    expected = whole.take(step, reverts)
    slices = [part.take(step, reverts) for part in parts]
    assert all(len(batch) == jax.local_device_count() for batch in slices)
    flat = np.concatenate([batch.reshape(-1, *images.shape) for batch in slices])
    np.testing.assert_array_equal(flat, expected.reshape(flat.shape))
  assert set(read) == {16}


def test_processes_must_divide_the_batch(config):
  with pytest.raises(UserError, match='train.batch_size is 64, which 3 processes.*multiple of 3'):
    Batches(sets.load(config.data, 'train'), 64, 0, process_index=2, process_count=3)


# Workers ----------------------------------------------------------------------------------------


def test_workers_make_the_same_batches_from_any_step_on_and_end_when_closed(data_dir, make):
  images = load(data_dir)
  place = {'process_index': 1, 'process_count': 2}
  thread, spread = make(images, 16, 3, **place), make(images, 16, 3, workers=3, **place)
  for step in range(7, 13):
    np.testing.assert_array_equal(spread.take(step, 0), thread.take(step, 0))
  before = workers()
  assert len(before) == 3
  # After a revert. The third worker has not had its turn when they are closed.
  np.testing.assert_array_equal(spread.take(8, 1), thread.take(8, 1))
  after = workers()
  assert len(after) == 3 and not set(before) & set(after)
  spread.close()
  assert not workers() and not any(is_there(pid) for pid in before + after)


def test_images_in_memory_are_left_to_the_thread(config, make):
  make(sets.load(config.data, 'train'), 8, 0, workers=2).take(0, 0)
  assert not workers()


def test_unreadable_record_in_a_worker_is_told_in_one_line(data_dir, tmp_path, make):
  damaged = tmp_path / 'imagenet'
  for path in data_dir.rglob('*'):
    if path.is_file():
      copy = damaged / path.relative_to(data_dir)
      copy.parent.mkdir(parents=True, exist_ok=True)
      copy.write_bytes(path.read_bytes())
  images = load(damaged)
  shard = sorted(damaged.rglob('*train.array_record*'))[1]
  content = bytearray(shard.read_bytes())
  content[len(content) // 4:len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
  shard.write_bytes(content)
  batches = make(images, 24, 0, workers=1)
  with pytest.raises(UserError, match='32x32.*is damaged.*prepare it again') as error:
    for step in range(3):  # more than an epoch
      batches.take(step, 0)
  assert '\n' not in str(error.value)
  batches.close()
  assert not workers()


def test_dead_worker_is_told_in_one_line(data_dir, make):
  batches = make(load(data_dir), 8, 0, workers=1)
  batches.take(0, 0)
  os.kill(workers()[0], signal.SIGKILL)  # as the kernel does when memory runs out
  with pytest.raises(UserError, match='worker.*exit code -9.*data.workers') as error:
    for step in range(1, 9):  # those that it has made before are good
      batches.take(step, 0)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('number, to_all, when', [
    (signal.SIGKILL, False, 'started'), (signal.SIGTERM, False, 'starting'),
    (signal.SIGINT, True, 'starting'), (signal.SIGINT, True, 'started')])
def test_workers_end_with_their_parent(data_dir, number, to_all, when):
  environment = os.environ | {'PYTHONPATH': ROOT}
  process = subprocess.Popen(
      [sys.executable, '-c', SCRIPT, str(data_dir)], env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
  while (line := process.stdout.readline()).strip() != when:
    assert line, process.stderr.read()
  time.sleep(0.8 if when == 'starting' else 0)  # into the workers' imports
  (os.killpg if to_all else os.kill)(process.pid, number)
  _, error = process.communicate(timeout=200)  # Workers hold the pipes, so they have ended, too.
  assert process.returncode == -number
  if number == signal.SIGINT:
    assert error.count('Traceback') == 1 and 'Grain' not in error, error
  for _ in range(100):
    try:
      os.killpg(process.pid, 0)
    except ProcessLookupError:
      return
    time.sleep(0.1)
  raise AssertionError('processes are left')


def test_run_with_workers_is_the_run_without(config, tmp_path):
  for split, count in (('train', 20), ('test', 2)):
    (tmp_path / 'data' / split).mkdir(parents=True)
    for i in range(count):
      pixels = np.random.default_rng(i).integers(0, 17, (8, 8), np.uint8)
      Image.fromarray(pixels).save(tmp_path / 'data' / split / f'{i}.png')
  # With the shape and grey_levels of digits: another test has compiled the model.
  load = lambda split: dataclasses.replace(sets.load(config.data, split), grey_levels=17)
  config.data.update(name='folder', data_dir=str(tmp_path / 'data'))
  config.train.steps = 7
  whole = loop.train(config, str(tmp_path / 'whole'), load)
  config.data.workers, config.train.steps = 2, 4
  loop.train(config, str(tmp_path / 'cut'), load)
  config.data.workers, config.train.steps = 1, 7
  resumed = loop.train(config, str(tmp_path / 'cut'), load)
  assert whole.step == resumed.step == 7
  assert saved(whole.workdir, 7) == saved(resumed.workdir, 7)
  assert not workers()


# The benchmark ----------------------------------------------------------------------------------


def test_benchmark_prints_a_table(tmp_path):
  out = subprocess.run(
      [sys.executable, '-m', 'benchmarks.input', '--images=40', '--sizes=32', '--workers=1',
       '--batch_size=8', f'--directory={tmp_path}', '--feed=100'],
      cwd=ROOT, check=True, capture_output=True, text=True).stdout
  head, _, *rows = ([cell.strip() for cell in line.strip('|\n ').split('|')]
                    for line in out.splitlines())
  assert head[-1] == 'cores that feed 100 images/s'
  assert [(row[1], row[3]) for row in rows] == [('4', '1'), ('40', '1')]
  number = lambda cell: float(cell.replace(',', ''))
  for row in rows:
    assert number(row[4]) > 0 and number(row[5]) > 0
    assert number(row[6]) > number(row[7]) > 0 and number(row[8]) > number(row[9]) > 0


def test_flips_mirror_half_of_the_images_the_same_way_again(data_dir):
  images = load(data_dir)

  def take(flips, **slices):
    with contextlib.closing(Batches(images, 16, 0, flips=flips, **slices)) as batches:
      return np.concatenate([part for step in range(4) for part in batches.take(step, 0)])

  plain, flipped = take(False), take(True)
  mirrored = [not np.array_equal(a, b) for a, b in zip(plain, flipped, strict=True)]
  for a, b, other in zip(plain, flipped, mirrored, strict=True):
    np.testing.assert_array_equal(a[:, ::-1] if other else a, b)
  assert 16 < sum(mirrored) < 48
  np.testing.assert_array_equal(take(True), flipped)
  # Each process mirrors what it would if it were alone.
  halves = [take(True, process_index=i, process_count=2).reshape(4, 8, 32, 32, 3) for i in (0, 1)]
  np.testing.assert_array_equal(
      np.concatenate(halves, 1).reshape(flipped.shape), flipped)


def test_a_share_of_the_images_is_shown_in_grey(data_dir):
  images = load(data_dir)

  def take(grey, **slices):
    with contextlib.closing(Batches(images, 16, 0, grey=grey, **slices)) as batches:
      return batches.take(0, 0).reshape(-1, 32, 32, 3)

  plain, some = take(0.0), take(0.25)
  is_grey = [not np.array_equal(a, b) for a, b in zip(plain, some, strict=True)]
  assert 1 <= sum(is_grey) <= 8
  grey, colours = some[is_grey], plain[is_grey]
  assert (grey == grey[..., :1]).all()
  luma = colours @ np.array([0.299, 0.587, 0.114])
  assert abs(grey[..., 0] - luma).max() <= 1
  halves = [take(0.25, process_index=i, process_count=2) for i in (0, 1)]
  np.testing.assert_array_equal(np.concatenate(halves), some)


def test_what_has_no_colours_is_not_shown_in_grey():
  images = sets.load(config('digits', ''), 'train')
  with pytest.raises(UserError, match='digits.* has no colours: leave --config.data.grey at 0'):
    Batches(images, 16, 0, grey=0.5)


def test_images_are_shown_in_less_contrast(data_dir):
  images = load(data_dir)

  def take(contrast, **slices):
    with contextlib.closing(Batches(images, 16, 0, contrast=contrast, **slices)) as batches:
      return batches.take(0, 0).reshape(-1, 32, 32, 3)

  plain, less = take(1.0) - 127.5, take(3.0) - 127.5
  factors = (plain * less).sum((1, 2, 3)) / (plain**2).sum((1, 2, 3))
  assert abs(less - factors[:, None, None, None] * plain).max() < 0.6
  assert 1 / 3 < factors.min() < 0.5 and 0.75 < factors.max() < 1.001
  halves = [take(3.0, process_index=i, process_count=2) for i in (0, 1)]
  np.testing.assert_array_equal(np.concatenate(halves) - 127.5, less)


def test_crops_are_elsewhere_at_every_step_and_the_same_again(tmp_path):
  for split in ('train', 'test'):
    (tmp_path / split).mkdir()
    row = np.arange(250, dtype=np.uint8)  # a crop's first pixel is its place
    Image.fromarray(np.stack([np.tile(row, (60, 1))] * 3, -1)).save(tmp_path / split / 'a.png')
  images = sets.load(config('folder', tmp_path, crop=8), 'train')

  def take(step, **slices):
    with contextlib.closing(Batches(images, 16, 0, **slices)) as batches:
      return batches.take(step, 0).reshape(-1, 8, 8, 3)

  first = take(0)
  assert len(np.unique(np.concatenate([first, take(1)])[:, 0, 0, 0])) > 16
  np.testing.assert_array_equal(take(0), first)
  halves = [take(0, process_index=i, process_count=2) for i in (0, 1)]
  np.testing.assert_array_equal(np.concatenate(halves), first)

"""Batches: the same from a thread and from workers, which leave no processes behind."""

import dataclasses
import multiprocessing
import os
import shutil
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
from conv_draw.training import loop
from experiments import imagenet32
from tests.data.data_sets import config as data_config
from tests.data.data_sets import counting, refused
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
  batches = Batches(sets.load(config.data, 'train'), 8, seed=0, workers=1)
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
  """Makes `Batches`, which are closed after the test."""
  made = []

  def make(*args, **kwargs):
    made.append(Batches(*args, **kwargs))
    return made[-1]

  yield make
  for batches in made:
    batches.close()


def flat(batch):
  """[devices, B, H, W, C] -> [devices B, H, W, C]."""
  return batch.reshape(-1, *batch.shape[2:])


def workers():
  return [process.pid for process in multiprocessing.active_children()]


def is_there(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


# Batches made by a thread -----------------------------------------------------------------------


def test_batch_is_a_function_of_seed_reverts_and_step(make):
  images = counting(50)
  one, two = (make(images, 8, seed=0) for _ in range(2))
  forward = [one.take(step, 0) for step in range(4)]
  np.testing.assert_array_equal(two.take(3, 0), forward[3])  # the first to be taken
  assert not (two.take(3, 1) == forward[3]).all()
  assert not (make(images, 8, seed=1).take(3, 0) == forward[3]).all()


def test_each_process_reads_only_its_slice_of_a_batch(make):
  images = counting(50)
  read = []
  watched = dataclasses.replace(
      images, fetch=lambda indices: (read.append(len(indices)), images.fetch(indices))[1])
  whole = make(images, 64, seed=0)
  parts = [make(watched, 64, 0, process_index=p, process_count=4) for p in range(4)]
  for step, reverts in ((0, 0), (5, 0), (5, 1)):
    slices = [part.take(step, reverts) for part in parts]
    assert all(len(batch) == jax.local_device_count() for batch in slices)
    np.testing.assert_array_equal(
        np.concatenate([flat(batch) for batch in slices]), flat(whole.take(step, reverts)))
  assert set(read) == {16}
  with refused('train.batch_size is 64, which 3 processes', 'multiple of 3'):
    Batches(images, 64, 0, process_index=2, process_count=3)


# Augmentation -----------------------------------------------------------------------------------


@pytest.fixture
def take(data_dir, make):
  """Takes images of batch 0 of the processes together; checks that they are those of one alone."""
  images = load(data_dir)

  def take(images=images, step=0, **options):
    alone = flat(make(images, 48, 0, **options).take(step, 0))
    halves = [flat(make(images, 48, 0, process_index=i, process_count=2, **options).take(step, 0))
              for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), alone)
    return alone

  return take


def test_half_of_the_images_are_mirrored(take):
  plain, flipped = take(), take(flips=True)
  mirrored = [not np.array_equal(a, b) for a, b in zip(plain, flipped, strict=True)]
  for a, b, other in zip(plain, flipped, mirrored, strict=True):
    np.testing.assert_array_equal(a[:, ::-1] if other else a, b)
  assert 12 < sum(mirrored) < 36


def test_a_fraction_of_the_images_is_grey(take):
  plain, some = take(), take(grey=0.25)
  is_grey = [not np.array_equal(a, b) for a, b in zip(plain, some, strict=True)]
  assert 4 <= sum(is_grey) <= 20
  grey, colours = some[is_grey], plain[is_grey]
  assert (grey == grey[..., :1]).all()
  assert abs(grey[..., 0] - colours @ np.array([0.299, 0.587, 0.114])).max() <= 1
  with refused('counting', 'has no colours', 'data.grey'):
    Batches(counting(50), 16, 0, grey=0.5)


def test_contrast_is_reduced_by_factors_up_to_the_setting(take):
  plain, less = take() - 127.5, take(contrast=3.0) - 127.5
  factors = (plain * less).sum((1, 2, 3)) / (plain**2).sum((1, 2, 3))
  assert abs(less - factors[:, None, None, None] * plain).max() < 0.6
  assert 1 / 3 - 0.001 < factors.min() < 0.45 and 0.8 < factors.max() < 1.001


def test_crops_have_other_positions_at_every_step(take, tmp_path):
  for split in ('train', 'test'):
    (tmp_path / split).mkdir()
    row = np.arange(250, dtype=np.uint8)  # the first pixel of a crop is its position
    Image.fromarray(np.stack([np.tile(row, (60, 1))] * 3, -1)).save(tmp_path / split / 'a.png')
  images = sets.load(data_config('folder', tmp_path, crop=8), 'train')
  positions = [take(images, step)[:, 0, 0, 0] for step in (0, 1)]
  assert len(np.unique(positions)) > 48


# Workers ----------------------------------------------------------------------------------------


def test_workers_make_the_same_batches_from_any_step_and_end_when_closed(data_dir, make):
  images = load(data_dir)
  place = {'process_index': 1, 'process_count': 2}
  thread, spread = make(images, 16, 3, **place), make(images, 16, 3, workers=2, **place)
  for step in range(7, 12):
    np.testing.assert_array_equal(spread.take(step, 0), thread.take(step, 0))
  before = workers()
  assert len(before) == 2
  np.testing.assert_array_equal(spread.take(8, 1), thread.take(8, 1))  # after a revert
  after = workers()
  assert len(after) == 2 and not set(before) & set(after)
  spread.close()
  assert not workers() and not any(is_there(pid) for pid in before + after)
  make(counting(50), 8, 0, workers=2).take(0, 0)
  assert not workers()  # a thread prepares images in memory


def test_unreadable_record_in_a_worker_is_reported(data_dir, tmp_path, make):
  damaged = tmp_path / 'imagenet'
  shutil.copytree(data_dir, damaged)
  images = load(damaged)
  shard = sorted(damaged.rglob('*train.array_record*'))[1]
  content = bytearray(shard.read_bytes())
  content[len(content) // 4:len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
  shard.write_bytes(content)
  batches = make(images, 24, 0, workers=1)
  with refused('32x32', 'is damaged', 'prepare it again'):
    for step in range(3):  # more than an epoch
      batches.take(step, 0)
  batches.close()
  assert not workers()


def test_dead_worker_is_reported(data_dir, make):
  batches = make(load(data_dir), 8, 0, workers=1)
  batches.take(0, 0)
  os.kill(workers()[0], signal.SIGKILL)  # as the kernel does when memory runs out
  with refused('worker', 'exit code -9', 'data.workers'):
    for step in range(1, 9):  # the worker has made some of them
      batches.take(step, 0)


@pytest.mark.parametrize('number, to_all, when', [
    (signal.SIGKILL, False, 'started'), (signal.SIGINT, True, 'starting')])
def test_workers_end_with_their_parent(data_dir, number, to_all, when):
  environment = os.environ | {'PYTHONPATH': ROOT}
  process = subprocess.Popen(
      [sys.executable, '-c', SCRIPT, str(data_dir)], env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
  while (line := process.stdout.readline()).strip() != when:
    assert line, process.stderr.read()
  time.sleep(0.8 if when == 'starting' else 0)  # the worker is importing
  (os.killpg if to_all else os.kill)(process.pid, number)
  _, error = process.communicate(timeout=200)  # returns when workers have closed the pipes too
  assert process.returncode == -number
  if number == signal.SIGINT:
    assert error.count('Traceback') == 1 and 'Grain' not in error, error
  for _ in range(100):
    try:
      os.killpg(process.pid, 0)
    except ProcessLookupError:
      return
    time.sleep(0.1)
  raise AssertionError('processes still run')


def test_run_with_a_worker_is_the_run_without(config, tmp_path):
  for split, count in (('train', 20), ('test', 2)):
    (tmp_path / 'data' / split).mkdir(parents=True)
    for i in range(count):
      pixels = np.random.default_rng(i).integers(0, 17, (8, 8), np.uint8)
      Image.fromarray(pixels).save(tmp_path / 'data' / split / f'{i}.png')
  # With the shape and grey levels of digits, for which other tests have compiled the model.
  load = lambda split: dataclasses.replace(sets.load(config.data, split), grey_levels=17)
  config.data.update(name='folder', data_dir=str(tmp_path / 'data'))
  config.train.steps = 4
  arrays = []
  for config.data.workers in (0, 1):
    workdir = str(tmp_path / str(config.data.workers))
    loop.train(config, workdir, load)
    arrays.append(saved(workdir, 4))
  assert arrays[0] == arrays[1]


# The benchmark ----------------------------------------------------------------------------------


def test_benchmark_measures_speed_and_memory(data_dir):
  row = input_benchmark.measure(str(data_dir), size=32, workers=1, batch_size=8, count=16)
  assert row['images'] == 50 and row['images_per_second'] > 0 < row['images_per_cpu_second']
  for peak, private in (row['memory_mib'], row['worker_memory_mib']):
    assert peak > private > 0

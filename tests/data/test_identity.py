"""Which images a run may continue with."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from conv_draw.data import identity, sets
from tests.data.data_sets import config, refused


def fill(folder, names, seed, size=8):
  folder.mkdir(parents=True, exist_ok=True)
  for i, name in enumerate(names):
    Image.fromarray(np.random.default_rng((seed, i)).integers(0, 256, (size, size, 3), np.uint8)
                    ).save(folder / f'{name}.png')
  return folder


def opened(folder):
  return sets.load(config('folder', folder), 'train')


@pytest.fixture
def folder(tmp_path):
  return fill(tmp_path / 'mine', range(20), seed=0)


@pytest.fixture
def stored(folder):
  return json.loads(json.dumps(identity.of(opened(folder))))


def test_folder_is_the_same_wherever_it_lies(folder, stored, tmp_path):
  # Files are found in either split: new files may move some to the other.
  test = sets.load(config('folder', folder), 'test')
  assert test.digests(list(stored['files'])) == stored['files']
  folder.rename(tmp_path / 'another name')
  assert identity.check(stored, opened(tmp_path / 'another name'), 'run') == ''


def test_added_removed_and_replaced_images_are_accepted_and_mentioned(folder, stored):
  fill(folder, range(100, 130), seed=1)
  message = identity.check(stored, opened(folder), 'run')
  assert '45 images' in message and 'had 18 before' in message
  for i in range(100, 130):
    (folder / f'{i}.png').unlink()
  (folder / '0.png').unlink()
  fill(folder, [1], seed=2)
  assert 'had 18 before' in identity.check(stored, opened(folder), 'run')


@pytest.mark.parametrize('other', [
    dict(names=range(20), seed=0, size=10),  # another size
    dict(names=range(20), seed=1),  # the same names
    dict(names=range(50, 70), seed=0)])  # the same pixels
def test_another_folder_is_refused(stored, tmp_path, other):
  images = opened(fill(tmp_path / 'b' / 'mine', **other))
  with refused('runs/one', stored['name'], images.name, 'train.start_from'):
    identity.check(stored, images, 'runs/one')


def test_grey_levels_channels_and_names_are_compared():
  images = sets.Images('digits, train', (8, 8, 1), 17, None, 20)
  stored = identity.of(images)
  assert identity.check(stored, images, 'run') == ''
  for change in (dict(grey_levels=16), dict(shape=(8, 8, 3)), dict(name='digits, test')):
    with refused('digits'):
      identity.check(stored, dataclasses.replace(images, **change), 'run')


def test_images_json_of_earlier_versions_is_compared_as_far_as_it_goes(folder, stored, tmp_path):
  old = {key: stored[key] for key in ('name', 'shape', 'levels')}
  assert identity.check(old, opened(folder), 'run') == ''
  with refused('10x10'):
    identity.check(old, opened(fill(tmp_path / 'b' / 'mine', range(20), 0, size=10)), 'run')
  folder.rename(tmp_path / 'moved')
  assert 'not recorded' in identity.check(old, opened(tmp_path / 'moved'), 'run')


def test_file_names_are_not_stored(stored):
  """images.json is published with weights."""
  assert len(stored['files']) == 8
  assert not any(f'{i}.png' in json.dumps(stored['files']) for i in range(20))

"""Which images a run goes on with."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from conv_draw.data import identity, sets
from conv_draw.errors import UserError
from tests.data.data_sets import config, one_line


def fill(folder, names, seed, size=8):
  folder.mkdir(parents=True, exist_ok=True)
  for i, name in enumerate(names):
    Image.fromarray(np.random.default_rng((seed, i)).integers(0, 256, (size, size, 3), np.uint8)
                    ).save(folder / f'{name}.png')
  return folder


def opened(folder, split='train', **changes):
  return sets.load(config('folder', folder, **changes), split)


@pytest.fixture
def folder(tmp_path):
  return fill(tmp_path / 'mine', range(20), seed=0)


@pytest.fixture
def stored(folder):
  return json.loads(json.dumps(identity.of(opened(folder))))


def test_the_same_folder_goes_on_wherever_it_lies(folder, stored, tmp_path):
  assert identity.check(stored, opened(folder), 'run') == ''
  folder.rename(tmp_path / 'another name')
  assert identity.check(stored, opened(tmp_path / 'another name'), 'run') == ''


def test_images_may_be_added_removed_and_replaced_and_that_is_said(folder, stored):
  fill(folder, range(100, 130), seed=1)
  said = identity.check(stored, opened(folder), 'run')
  assert '45 images' in said and 'had 18 before' in said and '\n' not in said
  for i in range(100, 130):
    (folder / f'{i}.png').unlink()
  (folder / '0.png').unlink()
  fill(folder, [1], seed=2)
  assert 'had 18 before' in identity.check(stored, opened(folder), 'run')


@pytest.mark.parametrize('other', [
    dict(names=range(20), seed=0, size=10),  # another size
    dict(names=range(20), seed=1),  # called alike
    dict(names=range(50, 70), seed=0)])  # with the same pixels in part, but called otherwise
def test_another_folder_is_refused(stored, tmp_path, other):
  images = opened(fill(tmp_path / 'b' / 'mine', **other))
  with pytest.raises(UserError) as error:
    identity.check(stored, images, 'runs/one')
  one_line(error, 'runs/one', stored['name'], images.name, 'train.start_from')


def test_grey_levels_channels_and_names_are_compared_too():
  images = sets.load(config('digits'), 'train')
  stored = identity.of(images)
  assert identity.check(stored, images, 'run') == ''
  for change in (dict(grey_levels=16), dict(shape=(8, 8, 3)), dict(shape=(8, 9, 1)),
                 dict(name='digits (scikit-learn), test')):
    with pytest.raises(UserError, match='digits'):
      identity.check(stored, dataclasses.replace(images, **change), 'run')


def test_what_earlier_versions_stored_is_compared_as_far_as_it_goes(folder, stored, tmp_path):
  old = {key: stored[key] for key in ('name', 'shape', 'levels')}
  assert identity.check(old, opened(folder), 'run') == ''
  with pytest.raises(UserError, match='10x10'):
    identity.check(old, opened(fill(tmp_path / 'b' / 'mine', range(20), 0, size=10)), 'run')
  folder.rename(tmp_path / 'moved')
  assert 'not recorded' in identity.check(old, opened(tmp_path / 'moved'), 'run')
  digits = sets.load(config('digits'), 'train')
  assert identity.check({'name': digits.name, 'shape': [8, 8, 1], 'levels': 17}, digits, '') == ''
  with pytest.raises(UserError):
    identity.check({'name': 'others', 'shape': [8, 8, 1], 'levels': 17}, digits, 'run')


def test_file_names_are_not_told(folder, stored):
  """They go with published weights."""
  assert len(stored['files']) == 8
  assert not any(f'{i}.png' in json.dumps(stored['files']) for i in range(20))

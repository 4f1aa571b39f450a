"""Data sets of TFDS: their splits, and errors if they are missing or damaged.

The tests of CIFAR-10 and Omniglot need CONV_DRAW_DATA_DIR, a TFDS directory with both.
"""

import json
import os

import numpy as np
import pytest

from conv_draw.data import sets, tfds
from tests.data.data_sets import config, digests, everything, refused

needs_tfds_data = pytest.mark.skipif(
    'CONV_DRAW_DATA_DIR' not in os.environ,
    reason='CONV_DRAW_DATA_DIR is not set to a TFDS directory with cifar10 and omniglot')


def real(name, **changes):
  return config(name, os.environ['CONV_DRAW_DATA_DIR'], **changes)


@pytest.mark.parametrize('n', [105, 50, 28, 29])
def test_area_average_preserves_ink(n):
  ink = (np.random.default_rng(0).random((3, n, n)) < 0.1).astype(np.float32)
  small = tfds.area_average(ink, 28)
  np.testing.assert_allclose(small.sum((1, 2)) * (n / 28) ** 2, ink.sum((1, 2)), rtol=1e-5)
  # Against the definition: repeat every pixel 28 times, then average blocks of n.
  fine = ink.repeat(28, 1).repeat(28, 2)
  np.testing.assert_allclose(small, fine.reshape(3, 28, n, 28, n).mean((2, 4)), atol=1e-6)


def test_drawer_split_does_not_depend_on_the_order_of_records():
  rng = np.random.default_rng(0)
  labels, hashes = np.repeat(np.arange(30), 20), rng.integers(2**63, size=600, dtype=np.uint64)
  shuffle = rng.permutation(600)
  chosen = {}
  for split, per_character in (('train', 15), ('test', 5)):
    rows = tfds.rows_by_drawer(labels, hashes, split)
    assert (np.bincount(labels[rows]) == per_character).all()
    again = tfds.rows_by_drawer(labels[shuffle], hashes[shuffle], split)
    np.testing.assert_array_equal(hashes[rows], hashes[shuffle][again])
    chosen[split] = set(rows)
  assert not chosen['train'] & chosen['test']


def test_binarisation_samples_the_probabilities_reproducibly():
  grey = np.repeat(np.array([0, 51, 204, 255], np.uint8), 20000)
  black = tfds.binarise(grey, 0)
  assert set(np.unique(black)) == {0, 255} and black.dtype == np.uint8
  means = black.reshape(4, -1).mean(1) / 255
  assert means[0] == 0 and means[3] == 1
  np.testing.assert_allclose(means, [0, 0.2, 0.8, 1], atol=0.015)  # 5 sigma
  np.testing.assert_array_equal(black, tfds.binarise(grey, 0))
  assert (black != tfds.binarise(grey, 1)).any()


@needs_tfds_data
def test_cifar10():
  train, test = (sets.load(real('cifar10'), split) for split in ('train', 'test'))
  assert (len(train), len(test)) == (50000, 10000)
  assert train.shape == (32, 32, 3) and train.grey_levels == 256
  assert 'cifar10 3.0.2' in test.name and 'test' in test.name
  assert not digests(train) & digests(test)
  # The channel means of the literature.
  np.testing.assert_allclose(
      everything(train).mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=1e-4)


@needs_tfds_data
def test_omniglot_by_drawer():
  train, test = (sets.load(real('omniglot'), split) for split in ('train', 'test'))
  assert (len(train), len(test)) == (24345, 8115)
  assert train.shape == (28, 28, 1) and train.grey_levels == 256
  assert 'split by drawer' in train.name
  grey, black = everything(train), everything(test)
  assert len(np.unique(grey)) > 10 and set(np.unique(black)) == {0, 255}
  assert 0.06 < grey.mean() / 255 < 0.1  # ink, not paper
  assert grey.mean() == pytest.approx(black.mean(), rel=0.02)
  np.testing.assert_array_equal(everything(sets.load(real('omniglot'), 'test')), black)
  assert (everything(sets.load(real('omniglot', binarisation_seed=1), 'test')) != black).any()


@needs_tfds_data
def test_omniglot_by_alphabet():
  images = [sets.load(real('omniglot', split_by='alphabet'), s) for s in ('train', 'test')]
  assert [len(i) for i in images] == [19280, 13180]


@pytest.mark.parametrize('name, words', [
    ('cifar10', ['cifar10', 'pip install tensorflow', 'array_record']),
    ('imagenet64', ['conv_draw.prepare_imagenet', '--size=64'])])
def test_unprepared_data_set_says_how_to_prepare_it(name, words, tmp_path, monkeypatch):
  with refused(tmp_path, 'data.data_dir', *words):
    sets.load(config(name, tmp_path), 'train')
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)  # the default directory is TFDS's
  monkeypatch.setenv('HOME', str(tmp_path))
  with refused(tmp_path / 'tensorflow_datasets'):
    sets.load(config(name), 'train')


def test_formats_without_random_access_and_damaged_data_are_refused(tmp_path):
  directory = tmp_path / 'cifar10' / '3.0.2'
  directory.mkdir(parents=True)
  info = directory / 'dataset_info.json'
  info.write_text(json.dumps({'name': 'cifar10', 'fileFormat': 'tfrecord'}))
  with refused(directory, 'tfrecord', 'array_record'):
    sets.load(config('cifar10', tmp_path), 'train')
  for text in ('{', '[]', json.dumps({'fileFormat': 'array_record', 'name': 'cifar10'})):
    info.write_text(text)
    with refused(directory, 'damaged', 'delete'):
      sets.load(config('cifar10', tmp_path), 'train')

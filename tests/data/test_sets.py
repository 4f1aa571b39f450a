"""Epochs, exact passes, and the data sets of scikit-learn with their disjoint splits."""

import types

import numpy as np
import pytest

from conv_draw.data import sets
from tests.data.data_sets import config, counting, digests, everything, refused


@pytest.mark.parametrize('batch_size', [1, 7, 10, 25])  # 10 divides the size, 25 exceeds it
def test_every_epoch_holds_every_index_once_in_a_fresh_order(batch_size):
  size, epochs = 10, 7
  stream = np.concatenate([sets.batch_indices(size, batch_size, (3, 0), step)
                           for step in range(-(-size * epochs // batch_size))])
  orders = stream[:size * epochs].reshape(epochs, size)
  assert (np.sort(orders) == np.arange(size)).all()
  assert len({tuple(order) for order in orders}) == epochs


def test_batch_depends_on_its_arguments_alone():
  expected = [sets.batch_indices(50, 8, (5,), step) for step in range(30)]
  assert all(batch.dtype == np.int64 and batch.shape == (8,) for batch in expected)
  for step in reversed(range(30)):  # as runs that resume at any step, without a cache
    sets._permutation.cache_clear()
    np.testing.assert_array_equal(sets.batch_indices(50, 8, (5,), step), expected[step])


def test_order_of_an_epoch_is_that_of_numpys_permutation():
  # Otherwise runs of earlier versions would continue with other images.
  for epoch in (0, 3):
    sequence = np.random.SeedSequence((2, 7, 1), spawn_key=(epoch,))
    expected = np.random.Generator(np.random.PCG64(sequence)).permutation(1000)
    np.testing.assert_array_equal(sets.batch_indices(1000, 1000, (7, 1), epoch), expected)


def test_seeds_give_different_streams():
  seeds = [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 0, 0)]
  assert len({tuple(sets.batch_indices(100, 100, s, 0)) for s in seeds}) == len(seeds)


def test_indices_are_shuffled_uniformly():
  # Each index is equally often in each place: of 4,000 epochs in 800, with a sigma of 25.
  orders = sets.batch_indices(5, 20000, (0,), 0).reshape(4000, 5)
  counts = np.array([[(orders[:, place] == i).sum() for i in range(5)] for place in range(5)])
  assert abs(counts - 800).max() < 130


@pytest.mark.parametrize('size, batch_size, max_images, expected', [
    (10, 4, 0, 10), (8, 4, 0, 8), (3, 8, 0, 3), (10, 4, 6, 6), (10, 4, 99, 10), (1, 1, 0, 1)])
def test_evaluation_sees_every_image_once_in_order(size, batch_size, max_images, expected):
  seen = []
  for pixels, mask, indices in sets.eval_batches(counting(size), batch_size, max_images):
    assert pixels.shape == (batch_size, 2, 3, 1) and pixels.dtype == np.uint8
    assert mask.shape == (batch_size,) and mask.dtype == np.float32
    assert indices.shape == (batch_size,) and indices.dtype == np.int64
    assert (pixels == indices.astype(np.uint8)[:, None, None, None]).all()
    assert set(mask) <= {0.0, 1.0} and (np.diff(mask) <= 0).all()
    seen += list(indices[mask == 1])
  assert seen == list(range(expected))


def test_digits():
  train, test = (sets.load(config('digits'), split) for split in ('train', 'test'))
  assert (len(train), len(test)) == (1497, 300)
  for images in (train, test):
    assert images.shape == (8, 8, 1) and images.grey_levels == 17
    assert everything(images).dtype == np.uint8 and everything(images).max() == 16
  assert not digests(train) & digests(test)


def test_photos_are_crops_of_disjoint_regions(monkeypatch):
  from sklearn import datasets
  photos = np.stack(datasets.load_sample_images().images)
  train, test = (sets.load(config('photos'), split) for split in ('train', 'test'))
  assert (len(train), len(test)) == (20790, 156)
  # Each test crop is one of the right part of its photograph, and no two are the same.
  places = set()
  crops = everything(test)
  for i, crop in enumerate(crops):
    found = [(top, left) for top in range(0, 427 - 31, 32) for left in range(448, 640 - 31, 32)
             if (photos[i % 2, top:top + 32, left:left + 32] == crop).all()]
    assert len(found) == 1
    places.add((i % 2, *found[0]))
  assert len(places) == 156
  # Training crops do not change when the columns from 448 on are painted over.
  painted = photos.copy()
  painted[:, :, 448:] = 0
  some = np.arange(0, len(train), 11)  # their left columns are all that there are
  original = train.fetch(some)
  monkeypatch.setattr(
      datasets, 'load_sample_images', lambda: types.SimpleNamespace(images=painted))
  np.testing.assert_array_equal(sets.load(config('photos'), 'train').fetch(some), original)
  assert len(np.unique(original.reshape(-1, 3072), axis=0)) == len(original)


def test_unknown_name_and_options_of_folders_are_refused():
  with refused("'cifar'", *sets.NAMES):
    sets.load(config('cifar'), 'train')
  with refused('digits', '8x8', '64', 'image_size'):
    sets.load(config('digits', image_size=64), 'train')
  with refused('digits', 'data.crop'):
    sets.load(config('digits', crop=4), 'train')

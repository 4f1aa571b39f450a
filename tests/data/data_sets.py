"""Helpers for tests of data sets."""

import contextlib
import hashlib

import ml_collections
import numpy as np
import pytest

from conv_draw.data import sets
from conv_draw.errors import UserError


def config(name, data_dir='', **changes):
  """`config.data` for `sets.load`."""
  keys = {'name': name, 'data_dir': str(data_dir), 'image_size': 0, 'split_by': 'drawer',
          'binarisation_seed': 0, 'hold_out': 0.1, 'crop': 0}
  return ml_collections.ConfigDict(keys | changes)


def counting(size):
  """`sets.Images` in memory, [2, 3, 1], of which image i is filled with i."""
  return sets.Images('counting', (2, 3, 1), 256, lambda indices: np.broadcast_to(
      np.asarray(indices, np.uint8)[:, None, None, None], (len(indices), 2, 3, 1)), size)


def everything(images):
  return images.fetch(np.arange(len(images)))


def digests(images):
  return {hashlib.sha256(image.tobytes()).digest() for image in everything(images)}


@contextlib.contextmanager
def refused(*words):
  """Checks that the block raises a `UserError` of one line that contains all `words`."""
  with pytest.raises(UserError) as error:
    yield
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert str(word) in message, message

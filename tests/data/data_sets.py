"""What tests of data sets share."""

import hashlib

import ml_collections
import numpy as np


def config(name, data_dir='', **changes):
  keys = {'name': name, 'data_dir': str(data_dir), 'image_size': 0, 'split_by': 'drawer',
          'binarisation_seed': 0, 'hold_out': 0.1, 'crop': 0}
  return ml_collections.ConfigDict(keys | changes)


def everything(images):
  return images.fetch(np.arange(len(images)))


def digests(images):
  return {hashlib.sha256(image.tobytes()).digest() for image in everything(images)}


def one_line(error, *words):
  """Checks that an error is one line that says all of `words`."""
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert str(word) in message, message

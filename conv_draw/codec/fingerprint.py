"""The 8 bytes by which a coded file names the model that decodes it."""

import hashlib
from typing import Any

import jax
import numpy as np

from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.model import pixels as pixels_lib
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.progressive.model import Progressive
from conv_draw.progressive.pixels import SquaredErrorPixels

# Models that come with the package: `identity` of the arrays in use -> the fingerprint that files
# carry, which has been that of the weights as they were published. Rows are added and never
# removed; a row's identity is computed again where a later version uses fewer of the arrays.
PUBLISHED = {
    '0ec59535a8881cc5': 'a767d5d5c30bbb5b',  # cifar10
    '963b626d9edcb104': '7ab6f1871d72fb22',  # cifar10_codec
    'dc15de8883d5564e': '778098f89798e49f',  # cifar10_local_draw, the canvas and its latents
    'e0207d4191d49445': 'ebb74302ee09df3e',  # cifar10_lossless
    '7fdbbce0b1d18234': 'd90494806addca88',  # cifar10_lossy
    '5072bca927b1b5c4': '4eeb422d0f6eab93',  # omniglot
    '871112285b35150e': '4e8ccf02805c02b5',  # omniglot_beta/beta_0.2
    'f8de17ff9c058e85': '1409350a2167a6b0',  # omniglot_beta/beta_0.4
    '0e8e3dc320080382': '7809d1c16da4557b',  # omniglot_beta/beta_0.5
    '504fc75749992cc2': '5ae5871583c836fb',  # omniglot_beta/beta_0.6
    '20f1a6f999f3e10d': '8fc303478e3d6ad5',  # omniglot_beta/beta_0.8
    'c23ce2f40160e220': '5a6afacce3607d94',  # omniglot_local_draw, the canvas and its latents
    '965dc68cbcc746b4': '3f916878d7f22b78',  # photos_lossless
    '47ae0d82eef7f386': 'd1dd07436499d8b9',  # photos_lossy
}

# The offsets of the quantisation step that progressive models had when they were first published.
_OFFSETS = tuple(range(-8, 64))


def fingerprint(model: ConvDraw | Progressive | LocalDraw, params: Any) -> bytes:
  """The 8 bytes of a model: a digest of its arrays and of the settings that coding depends on.

  Args:
    model: `ConvDraw`, `Progressive`, or `LocalDraw` of `IntegerPixels` alone.
    params: its parameters, as Flax nests them.
  """
  published = PUBLISHED.get(identity(model, params))
  return bytes.fromhex(published) if published else _digest(settings(model), params)


def identity(model: ConvDraw | Progressive | LocalDraw, params: Any) -> str:
  """16 hexadecimal digits of the settings and of all arrays, whatever the arrays are called."""
  digest = hashlib.blake2b(repr(settings(model)).encode(), digest_size=8)
  for array in sorted(map(_array_digest, jax.tree.leaves(params))):
    digest.update(array)
  return digest.hexdigest()


def settings(model: ConvDraw | Progressive | LocalDraw) -> tuple:
  """The settings of a model that coding depends on, independent of the names of classes."""
  if isinstance(model, LocalDraw):
    head = model.head
    return 'whole', head.channels, head.horizon, head.residual_layers, head.mixtures
  found = (
      model.channels, _pixels(model.pixels), model.iterations, model.kernel,
      [tuple(layer)[:3] for layer in model.all_layers], model.posterior,
      str(np.dtype(model.compute_dtype)))
  if isinstance(model, Progressive):
    found += ((model.image_kernel,) if model.image_kernel else ()) + (_OFFSETS,)
  return found


def _pixels(pixels):
  """The distribution of the pixels, in the words of the first files."""
  levels = f'levels={pixels.grey_levels}'
  if isinstance(pixels, LogisticMixturePixels):
    return f'LogisticMixturePixels({levels}, mixtures={pixels.mixtures})'
  if isinstance(pixels, pixels_lib.BernoulliPixels):
    return f'BernoulliPixels({levels})'
  if isinstance(pixels, SquaredErrorPixels):
    return f'SquaredErrorPixels({levels})'
  assert isinstance(pixels, pixels_lib.GaussianPixels), pixels
  return f'GaussianPixels({levels})'


def _digest(words, params):
  """8 bytes of settings and of named arrays, in the order of their names."""
  digest = hashlib.blake2b(repr(words).encode(), digest_size=8)
  for path, value in sorted(
      jax.tree_util.tree_leaves_with_path(params), key=lambda leaf: jax.tree_util.keystr(leaf[0])):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.asarray(value).astype('<f4').tobytes())
  return digest.digest()


def _array_digest(array):
  array = np.asarray(array)
  return hashlib.blake2b(
      repr(array.shape).encode() + array.astype('<f4').tobytes(), digest_size=8).digest()

"""Checks of the arguments that users give to the models and the codec, one function per kind.

Each function returns the argument. Arrays may be NumPy's, JAX's, or JAX's tracers, whose values are
unknown and not checked.
"""

import math
import numbers
import operator
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conv_draw.errors import UserError

Array = jax.Array | np.ndarray


def images(value, axes, grey_levels, name, channels=None):
  """`value`, an array of images.

  Args:
    value: uint8 in 0..grey_levels-1.
    axes: the names of its axes, a letter each: 'HWC', 'NHWC'.
    grey_levels: number of values of a pixel.
    name: for messages.
    channels: C; None: any.
  Raises:
    UserError: it is not an array, is of another type or shape, has no pixels, or has other values.
  """
  values = f'0..{grey_levels - 1}'
  if not isinstance(value, (np.ndarray, jax.Array)):
    raise UserError(
        f'{name}: a {type(value).__name__} is no array of NumPy or JAX: give uint8 of {values}')
  if value.dtype != np.uint8:
    raise UserError(f'{name}: {value.dtype} is no type of grey levels: give uint8 of {values}')
  wanted = f'[{", ".join(axes[:-1])}, {channels or axes[-1]}]'
  if value.ndim != len(axes) or channels not in (None, value.shape[-1]):
    raise UserError(f'{name}: the shape is {value.shape}, and has to be {wanted}')
  if not value.size:
    raise UserError(f'{name}: there are no pixels in {wanted} = {value.shape}')
  if grey_levels < 256 and _is_known(value):
    highest = int(jax.device_get(value).max())
    if highest >= grey_levels:
      raise UserError(
          f'{name} has pixels up to {highest}, but the model has {grey_levels} grey levels: use a '
          'model of 8-bit images')
  return value


def params(value: Any):
  """`value`, parameters as Flax nests them: {'params': {name: array or dict}}.

  Raises:
    UserError: it is something else, or has arrays that are not of real numbers.
  """
  found = value.get('params') if isinstance(value, Mapping) else None
  remedy = "give what the model's init returns, or load(...).params"
  if not isinstance(found, Mapping) or not found:
    raise UserError(f"params: a {type(value).__name__} without arrays at 'params': {remedy}")
  for leaf in jax.tree.leaves(found, is_leaf=lambda leaf: leaf is None):
    dtype = getattr(leaf, 'dtype', None)
    if dtype is None or not jnp.issubdtype(dtype, np.number) or (
        jnp.issubdtype(dtype, jnp.complexfloating)):
      raise UserError(f'params: {dtype or type(leaf).__name__} in place of real numbers: {remedy}')
  return value


def keys(value, count):
  """`value`, one key or one for each of `count` images.

  Raises:
    UserError: it does not hold keys, or another number of keys.
  """
  if not (isinstance(value, jax.Array) and jax.dtypes.issubdtype(
      value.dtype, jax.dtypes.prng_key)):
    raise UserError(
        f'key: a {type(value).__name__} is not a key of JAX: give jax.random.key(0), say')
  if value.shape not in ((), (count,)):
    raise UserError(f'{count} images take one key or {count}, not keys of shape {value.shape}')
  return value


def groups(value, count, most):
  """`value`, a number of latent groups in 0..most, or one for each of `count` images.

  Raises:
    UserError: it is something else.
  """
  found = value
  if not isinstance(value, jax.Array):
    try:
      found = np.asarray(value)
    except ValueError:  # ragged lists
      found = np.zeros(0)
  good = found.dtype.kind in 'iu' and found.shape in ((), (count,))
  if good and _is_known(found):
    found = jax.device_get(found)
    good = found.min() >= 0 and found.max() <= most
  if not good:
    raise UserError(f'groups: {value!r} is neither an integer in 0..{most} nor {count} of them')
  return np.asarray(value) if isinstance(value, list | tuple) else value


def temperature(value, name='temperature'):
  """`value`, a number from 0, possibly as an array without axes.

  Raises:
    UserError: it is something else.
  """
  found = value
  if isinstance(value, Array) and value.ndim == 0 and (
      jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
    if not _is_known(value):
      return value
    found = float(jax.device_get(value))
  number(found, name, 0, math.inf)
  return value


def size(value, axes, name):
  """`value` as a tuple of ints.

  Args:
    value: integers from 1, as many as there are letters in `axes`.
    axes: the names of the axes, a letter each: 'HW', 'HWC'.
    name: for messages.
  Raises:
    UserError: it is something else.
  """
  try:
    found = tuple(0 if isinstance(n, bool) else operator.index(n) for n in value)
  except TypeError:
    found = ()
  if len(found) != len(axes) or min(found) < 1:
    raise UserError(
        f'{name}: {value!r} is no ({", ".join(axes)}): give {len(axes)} whole numbers from 1')
  return found


def file_bytes(value, name):
  """`value` as `bytes`: of a bytearray, a memoryview, or a uint8 array of NumPy or JAX.

  Raises:
    UserError: it is something else.
  """
  if isinstance(value, bytes):
    return value
  if isinstance(value, jax.Array):
    value = jax.device_get(value)
  if isinstance(value, str | os.PathLike):
    raise UserError(f'{name}: {value!r} is a path, or text: give the bytes that '
                    'pathlib.Path(...).read_bytes() returns')
  try:
    view = memoryview(value)
  except (TypeError, ValueError):  # no buffer, elements without a format, or a released buffer
    raise UserError(f'{name}: a {type(value).__name__} holds no bytes: give what '
                    'pathlib.Path(...).read_bytes() returns') from None
  if view.format.lstrip('<>=@|!') not in ('B', 'b', 'c'):
    raise UserError(f'{name}: {type(value).__name__} of {view.format!r} are no bytes: give uint8')
  return view.tobytes()


def strings(value, name):
  """`value`, strings, as a list.

  Raises:
    UserError: it is something else.
  """
  try:
    found = [value] if isinstance(value, str) else list(value)
  except TypeError:
    found = [None]
  if not all(isinstance(one, str) for one in found):
    raise UserError(f'{name}: {value!r} are no strings: give a list of them')
  return found


def path(value, name):
  """`value`, a path, as a string.

  Raises:
    UserError: it is something else.
  """
  if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
    raise UserError(f'{name}: a {type(value).__name__} is neither a name nor a path: give a string')
  return os.fspath(value)


def number(value, name, least, most, whole=False):
  """`value`, a number in least..most; an integer if `whole`.

  Raises:
    UserError: it is something else.
  """
  kind = numbers.Integral if whole else numbers.Real
  if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
    end = '' if most == math.inf else f' to {most}'
    raise UserError(f'{name}: {value!r} is no {"whole " * whole}number from {least}{end}')
  return value


def _is_known(array):
  return not isinstance(array, jax.core.Tracer)

"""What users hand to the models and the codec: one check of each kind of thing.

Arrays may be NumPy's, JAX's, or those that JAX traces a function with, whose values are not known.
"""

import math
import numbers

import jax
import numpy as np

from conv_draw.errors import UserError

Array = jax.Array | np.ndarray


def images(value, axes, grey_levels, name, channels=None):
  """The array that it was given, which holds images.

  Args:
    value: what should be uint8 of 0..grey_levels-1.
    axes: what its axes should be, a letter each: 'HWC', 'NHWC'.
    channels: C, if it has to be that; None: any.
    name: for messages.
  Raises:
    UserError: no array, or one of another type, another number of axes or channels, without pixels,
      or with values that are no grey levels.
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
  if grey_levels < 256 and _is_known(value) and (highest := int(value.max())) >= grey_levels:
    raise UserError(
        f'{name} has pixels up to {highest}, but the model knows {grey_levels} values: use a model '
        'of 8-bit images')
  return value


def keys(value, count):
  """The key or keys that it was given: one, or one for each of `count` images.

  Raises:
    UserError: no keys, or another number of them.
  """
  if not (isinstance(value, jax.Array) and jax.dtypes.issubdtype(
      value.dtype, jax.dtypes.prng_key)):
    raise UserError('what draws latents has to be a key: give jax.random.key(0), say')
  if value.shape not in ((), (count,)):
    raise UserError(f'{count} images take one key or {count}, not keys of shape {value.shape}')
  return value


def groups(value, count, most):
  """The number that it was given, or the [count] numbers, of groups of latents, 0..most.

  Raises:
    UserError: something else.
  """
  if not (isinstance(value, jax.Array) and not _is_known(value)):
    numbers_ = np.asarray(value)
    whole = numbers_.dtype.kind in 'iu' and numbers_.shape in ((), (count,))
    if not whole or numbers_.min() < 0 or numbers_.max() > most:
      raise UserError(f'groups: {value!r} is no number in 0..{most}, and no {count} of them')
  return value


def number(value, name, least, most, whole=False):
  """The number that it was given, in least..most.

  Raises:
    UserError: another, or none.
  """
  kind = numbers.Integral if whole else numbers.Real
  if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
    end = '' if most == math.inf else f' to {most}'
    raise UserError(f'{name}: {value!r} is no {"whole " * whole}number from {least}{end}')
  return value


def _is_known(array):
  return not isinstance(array, jax.core.Tracer)

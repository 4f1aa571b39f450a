"""JAX's persistent compilation cache, switched on for the command lines.

A program that was compiled once is loaded by later commands. The cache is in the user's cache
directory, in a folder for each version of jaxlib and each set of CPU features: home directories are
shared, and a program that was compiled for one CPU must not run on another. Programs are code: a
folder that others can write is not used. JAX bounds the cache's size, locks it, and compiles where
an entry cannot be read or written.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import sys
import warnings

VARIABLE = 'CONV_DRAW_CACHE'
OFF = 'off'
MAX_BYTES = 2**30
MIN_SECONDS = 0.1  # of compilation: loading a program takes some 10 ms


def enable(place: str | None = None) -> None:
  """Switches the cache on for this process and its children, whether JAX is imported or not.

  The user's own JAX_COMPILATION_CACHE_DIR is left alone. A folder that cannot be made or written,
  or that belongs to or can be written by others, leaves the cache off.

  Args:
    place: the cache's folder, or 'off'; None: the variable CONV_DRAW_CACHE, else conv_draw in the
      user's cache directory (XDG_CACHE_HOME, ~/.cache).
  """
  place = place or os.environ.get(VARIABLE) or _default()
  if place.lower() == OFF:
    return
  place = os.path.abspath(os.path.expanduser(place))
  folder = os.path.join(place, _machine())
  if os.environ.get('JAX_COMPILATION_CACHE_DIR', folder) != folder:
    return
  try:
    for path in (place, folder):
      os.makedirs(path, 0o700, exist_ok=True)
    if not (os.access(folder, os.W_OK) and all(map(_private, (place, folder)))):
      return
    _clean(pathlib.Path(folder))
  except OSError:
    return
  warnings.filterwarnings('ignore', 'Error (reading|writing) persistent compilation cache')
  settings = {'jax_compilation_cache_dir': folder, 'jax_compilation_cache_max_size': MAX_BYTES,
              # Else XLA is given the folder's name, which becomes part of every program's key.
              'jax_persistent_cache_enable_xla_caches': 'none',
              'jax_persistent_cache_min_compile_time_secs': MIN_SECONDS}
  for name, value in settings.items():
    os.environ[name.upper()] = str(value)
    if 'jax' in sys.modules:
      sys.modules['jax'].config.update(name, value)


def _default():
  """A folder in the user's cache directory; 'off' for users without one."""
  base = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(base):  # which XDG's specification ignores
    base = os.path.expanduser('~/.cache')
  return os.path.join(base, 'conv_draw') if os.path.isabs(base) else OFF


def _private(folder):
  """Whether the user alone owns and writes it."""
  found = os.stat(folder)
  return not hasattr(os, 'geteuid') or (
      found.st_uid == os.geteuid() and not found.st_mode & 0o022)


def _clean(folder):
  """Removes what a full disk or a kill has left, which JAX neither replaces nor evicts."""
  for entry in folder.glob('*-cache'):
    atime = entry.with_name(entry.name.removesuffix('-cache') + '-atime')
    if entry.is_file() and not (entry.stat().st_size and atime.exists()):
      entry.unlink(missing_ok=True)


def _machine():
  """A folder's name for this jaxlib and the features of this CPU."""
  features = platform.processor()
  try:
    with open('/proc/cpuinfo') as f:  # flags on x86, Features on ARM
      features += ''.join(
          sorted({line for line in f if line.lower().startswith(('flags', 'features', 'model n'))}))
  except OSError:
    pass  # not Linux
  digest = hashlib.blake2b(features.encode(), digest_size=6).hexdigest()
  return f'jaxlib-{importlib.metadata.version("jaxlib")}-{platform.machine()}-{digest}'

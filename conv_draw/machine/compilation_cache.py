"""JAX's persistent compilation cache, switched on for the command lines.

A program that was compiled once is loaded by later commands. The cache is in the user's cache
directory, in a folder for each version of jaxlib and each set of CPU features: home directories are
shared, and a program that was compiled for one CPU must not run on another. JAX bounds its size,
locks it, and compiles where an entry cannot be read or written.
"""

import hashlib
import importlib.metadata
import os
import platform
import sys
import warnings

VARIABLE = 'CONV_DRAW_CACHE'
OFF = 'off'
MAX_BYTES = 2**30
MIN_SECONDS = 0.1  # of compilation: loading a program takes some 10 ms


def enable(place: str | None = None) -> None:
  """Switches the cache on for this process and its children, whether JAX is imported or not.

  The user's own JAX_COMPILATION_CACHE_DIR is left alone. A folder that cannot be made or written
  leaves the cache off.

  Args:
    place: the cache's folder, or 'off'; None: the variable CONV_DRAW_CACHE, else conv_draw in the
      user's cache directory (XDG_CACHE_HOME, ~/.cache).
  """
  place = place or os.environ.get(VARIABLE) or os.path.join(_user_cache(), 'conv_draw')
  folder = os.path.join(os.path.abspath(os.path.expanduser(place)), _machine())
  if place == OFF or os.environ.get('JAX_COMPILATION_CACHE_DIR', folder) != folder:
    return
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError:
    return
  if not os.access(folder, os.W_OK):
    return
  warnings.filterwarnings('ignore', 'Error (reading|writing) persistent compilation cache')
  settings = {'jax_compilation_cache_dir': folder, 'jax_compilation_cache_max_size': MAX_BYTES,
              'jax_persistent_cache_min_compile_time_secs': MIN_SECONDS}
  for name, value in settings.items():
    os.environ[name.upper()] = str(value)
    if 'jax' in sys.modules:
      sys.modules['jax'].config.update(name, value)


def _user_cache():
  return os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')


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

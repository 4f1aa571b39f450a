"""Compiled programs are loaded again, and whatever happens to the cache, results are the same."""

import os
import subprocess
import sys

import pytest

from tests.program import ROOT

# Compiles a program, prints its result, and whether it came from the cache.
PROGRAM = '''
import sys
from conv_draw.machine import compilation_cache
compilation_cache.MIN_SECONDS = 0
compilation_cache.enable(*sys.argv[1:2])
{before}
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append('cache_hits' in event))
print(jax.jit(lambda x: (x * 3 + 1).sum())(jax.numpy.arange(4.0)), any(hits))
'''
NO_SPACE = '''
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
'''


def start(*arguments, before='', **variables):
  environment = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  environment = {'JAX_PLATFORMS': 'cpu', **environment, **variables}
  return subprocess.Popen(
      [sys.executable, '-c', PROGRAM.format(before=before), *map(str, arguments)], cwd=ROOT,
      env={k: v for k, v in environment.items() if v is not None}, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def result(process):
  """Whether the program was loaded from the cache; its result must be right and stderr empty."""
  out, error = process.communicate(timeout=120)
  value, hit = out.split()
  assert (process.returncode, float(value), error) == (0, 22.0, ''), error
  return hit == 'True'


def entries(folder):
  return sorted(p for p in folder.glob('*/*') if p.name.endswith('-cache'))


def test_programs_are_loaded_again_whatever_happens_to_the_cache(tmp_path):
  assert [result(process) for process in [start(tmp_path), start(tmp_path)]][0] in (False, True)
  assert result(start(tmp_path))
  for path in entries(tmp_path):
    path.write_bytes(path.read_bytes()[:-9])
  assert not result(start(tmp_path))
  for path in entries(tmp_path):  # of a full disk, or of a kill between two writes
    path.write_bytes(b'')
  [other] = [path.parent / 'jit_other-0-cache' for path in entries(tmp_path)[:1]]
  other.write_bytes(b'some')
  assert not result(start(tmp_path)) and result(start(tmp_path))
  assert not other.exists()
  [machine] = tmp_path.iterdir()  # of another CPU, as in a home directory that is shared
  machine.rename(tmp_path / f'{machine.name[:-1]}0')
  assert not result(start(tmp_path))


def test_a_cache_may_be_moved_and_have_any_name(tmp_path):
  folder = os.fsencode(tmp_path) + b'/a\xff'
  assert not result(start(CONV_DRAW_CACHE=os.fsdecode(folder)))
  os.rename(folder, tmp_path / 'moved')
  assert result(start(tmp_path / 'moved'))


@pytest.mark.parametrize('below', ['', '*'])
def test_a_folder_that_others_can_write_is_not_used(tmp_path, below):
  cache = tmp_path / 'cache'
  assert not result(start(cache))
  for path in cache.glob(below) if below else [cache]:
    path.chmod(0o777)
  assert not result(start(cache))


@pytest.mark.parametrize('name', ['lossless_effort_1', 'lossy_groups_2'])
def test_a_command_that_is_repeated_compiles_nothing(tmp_path, name):
  # Python's hashes of strings, and so the order of sets, are of one process alone.
  program = (
      'import sys; from conv_draw.machine import compilation_cache\n'
      'from conv_draw.codec import __main__ as codec\n'
      'compilation_cache.MIN_SECONDS = 0; codec.start()')
  file = os.path.join(ROOT, 'tests', 'golden', 'files', f'{name}.cdraw')
  environment = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  cache = tmp_path / 'cache'
  kept = []
  for seed in '12':
    subprocess.run(
        [sys.executable, '-c', program, 'decode', file, tmp_path / f'{seed}.png'], check=True,
        cwd=ROOT, env={**environment, 'CONV_DRAW_CACHE': str(cache), 'PYTHONHASHSEED': seed})
    kept.append(entries(cache))
  assert kept[0] and kept[0] == kept[1]


@pytest.mark.parametrize('arguments, options', [
    (['{tmp}/file/below'], {}), (['{tmp}'], {'before': NO_SPACE}), (['off'], {}),
    ([], {'HOME': None, 'XDG_CACHE_HOME': '/dev/null'}), ([], {'CONV_DRAW_CACHE': 'off'}),
    ([], {'CONV_DRAW_CACHE': '{tmp}/file'}),
    ([], {'HOME': '~nobody-at-all', 'XDG_CACHE_HOME': 'relative'})])
def test_without_a_cache_programs_are_compiled(tmp_path, arguments, options):
  (tmp_path / 'file').write_text('')
  place = lambda text: text and text.replace('{tmp}', str(tmp_path))
  options = {name: value if name == 'before' else place(value) for name, value in options.items()}
  assert not result(start(*map(place, arguments), **options))
  assert not any(path.stat().st_size for path in entries(tmp_path))
  assert not os.path.exists(os.path.join(ROOT, 'relative'))

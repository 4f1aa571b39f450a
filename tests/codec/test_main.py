"""`info` starts without what the other commands load."""

import os
import subprocess
import sys

import pytest

from conv_draw.codec.format import container
from tests.codec.format.test_container import HEADER, segments_of
from tests.program import ROOT

# Runs the command line that its arguments are, then prints which packages it has loaded.
LOADED = '''
import atexit, runpy, sys
atexit.register(lambda: print(*sorted({name.partition('.')[0] for name in sys.modules})))
module = sys.argv[1]
sys.argv[:2] = ['']
runpy.run_module(module, run_name='__main__', alter_sys=True)
'''
HEAVY = {
    'PIL', 'constriction', 'flax', 'jax', 'jaxlib', 'matplotlib', 'ml_collections', 'numpy',
    'orbax', 'scipy'}


def python(*arguments):
  done = subprocess.run(
      [sys.executable, *map(str, arguments)], cwd=ROOT, env=dict(os.environ), text=True,
      capture_output=True, timeout=300)
  return done.returncode, done.stdout, done.stderr


def test_info_loads_nothing_heavy(tmp_path):
  path = tmp_path / 'a.cdraw'
  path.write_bytes(container.write(HEADER, segments_of(HEADER)))
  status, out, error = python('-c', LOADED, 'conv_draw.codec', 'info', path)
  assert status == 0, error
  *text, loaded = out.splitlines()
  assert 'dígits' in '\n'.join(text)
  assert 'conv_draw' in loaded.split() and not HEAVY & set(loaded.split())


def test_the_package_loads_the_model_when_it_is_asked_for():
  status, out, error = python('-c', '''
import sys
import conv_draw
assert 'jax' not in sys.modules
assert set(conv_draw.__all__) <= set(dir(conv_draw))
for name in conv_draw.__all__:
  assert getattr(conv_draw, name).__name__ == name
from conv_draw.model.conv_draw import ConvDraw
assert conv_draw.ConvDraw is ConvDraw
assert {'optax', 'orbax', 'ml_collections', 'absl.app'}.isdisjoint(sys.modules)
from conv_draw import *
GaussianPixels, elbo
conv_draw.nothing
''')
  assert status == 1 and out == ''
  assert error.splitlines()[-1] == "AttributeError: module 'conv_draw' has no attribute 'nothing'"


# Parses each of its arguments as the one flag of a command line, and says how that ended.
PARSED = '''
import importlib, sys
from absl import flags
module, *arguments = sys.argv[1:]
program = importlib.import_module(module)
parse = getattr(program, 'parse', None) or program.command_line.parse_flags(program.PROGRAM)
for argument in arguments:
  flags.FLAGS.unparse_flags()
  try:
    parse(['', argument])
    print('taken', file=sys.stderr)
  except SystemExit as e:
    print(e.code)
'''


@pytest.mark.parametrize('program, refused', [
    ('conv_draw.codec', (
        '--tile=-1', '--tile=65536', '--tile=nan', '--none', '--groups=-1', '--groups=1.5',
        '--bits-per-dim=nan', '--bits-per-dim=inf', '--bits-per-dim=-1', '--temperature=nan',
        '--temperature=inf', '--temperature=-1', '--temperature=1e9')),
    ('conv_draw.codec.study', ('--images=0', '--images='))])
def test_mistakes_in_flags_end_in_one_line_and_status_two(program, refused):
  status, out, error = python('-c', PARSED, f'{program}.__main__', *refused)
  assert status == 0 and out.split() == ['2'] * len(refused), error
  for flag, line in zip(refused, error.splitlines(), strict=True):
    assert line.startswith(f'{program}: ')
    assert flag.split('=')[0].strip('-').replace('-', '_') in line


@pytest.mark.parametrize('command, flag, words', [
    ('encode', '--no-verify', '--no-verify is of encode --lossless'),
    ('decode', '--effort=1', '--effort is of encode')])
def test_what_is_of_something_else_is_not_ignored(command, flag, words):
  status, _, error = python('-m', 'conv_draw.codec', command, 'a', 'b', flag)
  assert status == 2 and words in error and len(error.splitlines()) == 1


def test_models_are_listed_and_named(tmp_path):
  status, out, error = python('-m', 'conv_draw.codec', 'list')
  assert status == 0 and 'photos_lossy ' in out, error
  for flags, words in ((('--model=none',), 'photos_lossless, photos_lossy'),
                       (('--model=cifar10', '--workdir=runs/x'), 'leave one out')):
    status, _, error = python('-m', 'conv_draw.codec', 'encode', 'a', 'b', *flags)
    assert status == 2 and words in error and len(error.splitlines()) == 1
  for arguments, words in ((('list', '--json'), '--json is not of list'),
                           (('view', '-'), 'name the page too')):
    status, out, error = python('-m', 'conv_draw.codec', *arguments)
    assert status == 2 and words in error and not out
  status, _, error = python(
      '-m', 'conv_draw.codec', 'encode', 'docs/digits_samples.png', tmp_path / 'x.cdraw',
      '--model=cifar10_codec', '--groups=1')
  assert status == 0, error
  status, out, _ = python('-m', 'conv_draw.codec', 'info', tmp_path / 'x.cdraw')
  assert 'cifar10_codec' in out


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
  """Which the shell does not replace in --workdir=~/run."""
  monkeypatch.setenv('HOME', str(tmp_path))
  status, _, error = python('-m', 'conv_draw.codec', 'encode', 'README.md', 'b', '--workdir=~/none')
  assert status == 2 and f'{tmp_path}/none' in error


def test_flags_may_be_spelt_with_dashes():
  """--bits-per-dim=1 is --bits_per_dim=1; the value is left as it is."""
  for spelling in ('--bits-per-dim=1', '--bits_per_dim=1', '--bits-per-dim=-1'):
    status, _, error = python('-m', 'conv_draw.codec', 'encode', 'a-b', 'c', '--lossless', spelling)
    assert status == 2 and len(error.splitlines()) == 1
    assert ('bits_per_dim' if spelling.endswith('=-1') else '--bits-per-dim') in error


# Parses its arguments, and prints those that are no flags, and --model.
NAMES = '''
import sys
from conv_draw.codec import __main__ as program
names = program.parse(['', *sys.argv[1:]])
print(*names[1:], program.MODEL.value, program.NO_VERIFY.value, sep='\\n')
'''


@pytest.mark.parametrize('before, names', [
    ([], ['--two-dashes.png', '--no-verify', '--bits-per-dim=1', '-', '--']),
    (['--no-verify', 'a-b'], ['--my-out.cdraw', '~'])])
def test_names_are_left_as_they_are(before, names):
  """Behind --, and where they are the value of a flag."""
  status, out, error = python(
      '-c', NAMES, 'encode', '--model', '--my-run', *before, '--', *names)
  assert status == 0, error
  assert out.splitlines() == [
      'encode', *before[1:], *names, '--my-run', str('--no-verify' in before)]


def test_a_stream_is_no_folder():
  status, _, error = python(
      '-m', 'conv_draw.codec', 'extract', 'a', '-', '--workdir=x')
  assert status == 2 and 'name a folder' in error and len(error.splitlines()) == 1

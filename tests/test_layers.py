"""The package has layers; each module imports only from its own layer and those below."""

import ast
import os

import pytest

from tests.program import ROOT

PACKAGE = 'conv_draw'
# From the top down. Programs (`__main__`s, launch.py and prepare_imagenet.py) are above them all,
# and so is __init__.py, which exports names of several layers.
LAYERS = ('command_line', 'codec', 'report', 'training', 'workdir', 'data', 'build', 'progressive',
          'autoregressive', 'model', 'quality', 'machine', 'errors')
PROGRAM = 'a program'


def modules():
  """{dotted name: path} of the package."""
  found = {}
  for directory, _, names in os.walk(os.path.join(ROOT, PACKAGE)):
    for name in names:
      if name.endswith('.py'):
        path = os.path.join(directory, name)
        dotted = os.path.relpath(path, ROOT).removesuffix('.py').replace(os.sep, '.')
        found[dotted.removesuffix('.__init__')] = path
  return found


MODULES = modules()


def imports(source):
  """Modules of the package that a source text imports, in functions too."""
  for node in ast.walk(ast.parse(source)):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'a relative import of {node.module}'
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    for name in names:
      while name and name not in MODULES:  # a name inside a module
        name = name.rpartition('.')[0]
      if name:
        yield name


def read(path):
  with open(path) as f:
    return f.read()


GRAPH = {name: sorted(set(imports(read(path))) - {name}) for name, path in MODULES.items()}


def layer(module):
  parts = module.split('.')[1:]
  if not parts or parts[-1] == '__main__' or parts in (['prepare_imagenet'], ['launch']):
    return PROGRAM
  return parts[0]


def upward(graph):
  order = [PROGRAM, *LAYERS, 'pretrained']
  return [f'{a} -> {b}' for a, below in graph.items() for b in below
          if order.index(layer(a)) > order.index(layer(b))]


def cycle(graph):
  """A cycle of imports, if there is any: what remains after removing modules without imports."""
  left = {name: set(below) for name, below in graph.items()}
  while done := {name for name, below in left.items() if not below & left.keys()}:
    left = {name: below for name, below in left.items() if name not in done}
  return sorted(left)


def test_imports_go_down_and_have_no_cycles():
  assert {layer(m) for m in MODULES} == {PROGRAM, 'pretrained', *LAYERS} and len(MODULES) > 40
  assert upward({m: b for m, b in GRAPH.items() if layer(m) != 'pretrained'}) == []
  assert cycle(GRAPH) == []


@pytest.mark.parametrize('folder, others', [
    ('model', {'errors'}), ('autoregressive', {'model', 'errors'}),
    ('progressive', {'model', 'errors'}), ('codec.format', {'errors'}),
    ('codec.entropy', {'errors'})])
def test_folders_that_know_little_of_the_others(folder, others):
  inside = f'{PACKAGE}.{folder}'
  used = {b for m in GRAPH if m.startswith(inside) for b in GRAPH[m]}
  assert {layer(b) for b in used if not b.startswith(inside)} <= others


def test_tests_mirror_the_folders():
  for directory, _, names in os.walk(os.path.join(ROOT, 'tests')):
    where = os.path.relpath(directory, os.path.join(ROOT, 'tests'))
    if where not in ('.', 'golden') and any(n.startswith('test_') for n in names):
      assert os.path.isdir(os.path.join(ROOT, PACKAGE, where)), where


def test_upward_imports_and_cycles_are_found():
  graph = {'conv_draw.model.a': ['conv_draw.codec.b'], 'conv_draw.codec.b': ['conv_draw.model.a'],
           'conv_draw.errors': []}
  assert upward(graph) == ['conv_draw.model.a -> conv_draw.codec.b']
  assert cycle(graph) == ['conv_draw.codec.b', 'conv_draw.model.a']
  source = 'def f():\n  from conv_draw.training import loop\n  import conv_draw.model.vae\n'
  assert set(imports(source)) == {'conv_draw.training.loop', 'conv_draw.model.vae'}

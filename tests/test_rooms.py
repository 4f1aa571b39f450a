"""The package is divided into rooms, each of which uses only those below it."""

import ast
import os

import pytest

from tests.program import ROOT

PACKAGE = 'conv_draw'
# From the top down. The programs, `__main__`s, launch.py and prepare_imagenet.py, stand above them
# all, and so does __init__.py, which hands on names of theirs.
ROOMS = ('command_line', 'codec', 'report', 'training', 'workdir', 'data', 'build', 'progressive',
         'autoregressive', 'model', 'quality', 'machine', 'errors')
PROGRAM = 'a program'
# Inside a room: folders of it that know nothing of the rest.
SEALED = ('codec.format', 'codec.entropy')


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


def imports(path, known=None):
  """Modules of the package that a file imports, anywhere in it."""
  known = MODULES if known is None else known
  with open(path) as f:
    tree = ast.parse(f.read())
  for node in ast.walk(tree):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} has a relative import'
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    for name in names:
      while name and name not in known:  # a name inside a module
        name = name.rpartition('.')[0]
      if name:
        yield name


def room(module):
  parts = module.split('.')[1:]
  if not parts or parts[-1] == '__main__' or parts in (['prepare_imagenet'], ['launch']):
    return PROGRAM
  return parts[0]


def floor(module):
  """0 for programs; the larger, the further down."""
  its = room(module)
  return 0 if its == PROGRAM else 1 + ROOMS.index(its)


GRAPH = {name: sorted(set(imports(path)) - {name}) for name, path in MODULES.items()}


def upward(graph):
  return [f'{a} -> {b}' for a, below in graph.items() for b in below if floor(a) > floor(b)]


def circle(graph):
  """Modules that import each other in a loop, if there are any."""
  done, path = set(), []

  def visit(module):
    if module in path:
      return path[path.index(module) :]
    if module in done:
      return []
    path.append(module)
    for below in graph[module]:
      if found := visit(below):
        return found
    path.pop()
    done.add(module)
    return []

  return next((found for module in graph if (found := visit(module))), [])


def test_every_module_has_a_room():
  assert {room(m) for m in MODULES} <= {PROGRAM, 'pretrained', *ROOMS}
  assert len(MODULES) > 40


def test_imports_go_down():
  assert upward({m: b for m, b in GRAPH.items() if room(m) != 'pretrained'}) == []


def test_no_modules_import_each_other_in_a_loop():
  assert circle(GRAPH) == []


def test_the_model_knows_nothing_of_the_program():
  for folder in ('model', 'autoregressive', 'progressive'):
    used = {room(below) for m in GRAPH if room(m) == folder for below in GRAPH[m]}
    assert used <= {folder, 'model', 'errors'}, folder


@pytest.mark.parametrize('folder', SEALED)
def test_layouts_and_entropy_coders_stand_alone(folder):
  inside = f'{PACKAGE}.{folder}'
  used = {b for m in GRAPH if m.startswith(inside) for b in GRAPH[m]}
  others = {m for m in used if not m.startswith(inside)}
  assert others <= {f'{PACKAGE}.errors'}


def test_tests_mirror_the_rooms():
  """Tests of a module lie where it does; golden/ is of all."""
  for directory, _, names in os.walk(os.path.join(ROOT, 'tests')):
    where = os.path.relpath(directory, os.path.join(ROOT, 'tests'))
    if where not in ('.', 'golden') and any(n.startswith('test_') for n in names):
      assert os.path.isdir(os.path.join(ROOT, PACKAGE, where)), where


def test_the_docs_say_what_is_where():
  """A line for each folder of the package, and for what lies beside them."""
  with open(os.path.join(ROOT, 'docs', 'code.md')) as f:
    section = f.read()
  said = [line.split()[0] for line in section.splitlines() if line.startswith('    ')]
  for directory, folders, names in os.walk(os.path.join(ROOT, PACKAGE)):
    if os.path.basename(directory) == 'pretrained':
      folders.clear()  # models, without modules
    for folder in folders:
      assert folder.startswith('__') or f'{folder}/' in said, folder
    if directory.endswith(PACKAGE):
      assert {n for n in names if n.endswith('.py')} - {'__init__.py'} <= set(said)


def test_upward_imports_and_loops_are_found(tmp_path):
  graph = {'conv_draw.model.a': ['conv_draw.codec.b'], 'conv_draw.codec.b': ['conv_draw.model.a']}
  assert upward(graph) == ['conv_draw.model.a -> conv_draw.codec.b']
  assert circle(graph) == ['conv_draw.model.a', 'conv_draw.codec.b']
  file = tmp_path / 'lazy.py'
  file.write_text('def f():\n  from conv_draw.codec import files\n  import conv_draw.model.vae\n')
  assert set(imports(file)) == {'conv_draw.codec.files', 'conv_draw.model.vae'}

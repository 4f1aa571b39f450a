"""Links, commands, settings and files that the documentation names exist; the library page runs."""

import glob
import os
import re
import shlex

import pytest

from conv_draw.workdir import settings
from tests.program import ROOT

# The changelog also names files of earlier versions.
CURRENT = ['README.md', *(
    path for folder in ('docs', 'benchmarks', 'experiments', 'conv_draw')
    for path in sorted(glob.glob(f'{folder}/**/*.md', root_dir=ROOT, recursive=True)))]
DOCUMENTS = [*CURRENT, 'CHANGELOG.md']
LAUNCH = os.path.join(ROOT, 'conv_draw', 'launch.py')
ABSL_FLAGS = ("'verbosity'", "'help'")
SETTINGS = {setting.key for setting in settings.SETTINGS}
# A command in a block of code, also after variables of the environment or `taskset`, or in a line.
COMMAND = r'^ {4,}(?:\w+=\S+ |taskset -c \d+ )*(python (?:.*\\\n)*.*)$|`(python [^`]*)`'


def _read(path):
  with open(os.path.join(ROOT, path)) as f:
    return f.read()


def _anchors(text):
  """The anchors that GitHub gives to the headings of a document."""
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
          for heading in re.findall(r'^#+ (.*)$', text, re.M)}


@pytest.mark.parametrize('path', DOCUMENTS)
def test_links_lead_somewhere(path):
  text = _read(path)
  for link in re.findall(r'\]\(([^)]+)\)', text):
    if re.match(r'https?:', link):
      continue
    name, _, anchor = link.partition('#')
    target = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
    assert os.path.exists(os.path.join(ROOT, target)), link
    if anchor:
      assert anchor in _anchors(_read(target)), link


@pytest.mark.parametrize('path', DOCUMENTS)
def test_flags_and_settings_of_commands_exist(path):
  for command in (a or b for a, b in re.findall(COMMAND, _read(path), re.M)):
    words = shlex.split(command.replace('\\\n', ' '), comments=True)
    if words[1] == '-c':
      compile(words[2], path, 'exec')
      continue
    source = LAUNCH
    if words[1] == '-m' and words[2].startswith(('conv_draw', 'benchmarks', 'tests')):
      module = os.path.join(ROOT, *words[2].split('.'))
      source = f'{module}/__main__.py' if os.path.isdir(module) else f'{module}.py'
      assert os.path.exists(source), command
    elif words[1] != 'launch.py':
      continue
    program = _read(source) + ''.join(ABSL_FLAGS)
    for word in words:
      flag, _, value = word.partition('=')
      if flag == '--config' and value.endswith('.py'):
        assert glob.glob(os.path.join(ROOT, re.sub(r'\$\w+', '*', value))), command
      elif flag.startswith('--config.'):
        assert flag.removeprefix('--config.') in SETTINGS, command
      elif flag.startswith('--'):
        name = flag[2:].replace('-', '_')
        assert any(f"'{x}'" in program for x in (name, name.removeprefix('no_'), flag)), (
            command, flag)
      if flag == '--mode':
        assert f"'{value}'" in program, command


def _named(text):
  """Paths in a text: in a folder of the repository, or Python files by name alone."""
  paths = re.findall(
      r'(?<![\w/.<-])((?:tests|conv_draw|docs|experiments|benchmarks)/[\w./*-]*\w)', text)
  return {*paths, *re.findall(r'`(\w+\.py)`', text)}


FILES = {name for folder in ('conv_draw', 'tests', 'experiments', 'benchmarks')
         for _, _, names in os.walk(os.path.join(ROOT, folder)) for name in names}
FILES |= set(os.listdir(ROOT))


@pytest.mark.parametrize('path', CURRENT)
def test_files_that_are_named_exist(path):
  for name in sorted(_named(_read(path))):
    assert name in FILES or glob.glob(os.path.join(ROOT, name)), name


def test_names_of_files_are_found_in_texts():
  text = 'see `tests/codec/gone.py` and `other.py`; runs/tests/x.py, my_docs/a.md, docs/*.csv.'
  assert _named(text) == {'tests/codec/gone.py', 'other.py', 'docs/*.csv'}


def test_the_page_about_the_code_lists_each_module_in_its_folder_and_no_other():
  tree = re.findall(r'^    ( *)(\S+)', _read('docs/code.md'), re.M)
  above, listed = [], []
  for spaces, name in tree:
    above = above[: len(spaces) // 2]
    if name.endswith('.py') and above[:1] == ['conv_draw/']:
      listed.append(''.join(above) + name)
    above.append(name)
  package = os.path.join(ROOT, 'conv_draw')
  there = [
      os.path.relpath(os.path.join(folder, name), ROOT).replace(os.sep, '/')
      for folder, _, names in os.walk(package) for name in names
      if name.endswith('.py') and not name.startswith('__')]
  assert sorted(listed) == sorted(there)
  for folder, _, names in os.walk(package):  # folders too
    if '__init__.py' in names:
      assert f'{os.path.basename(folder)}/' in {name for _, name in tree}, folder


def test_the_library_page_runs():
  blocks = re.findall(r'^```python\n(.*?)^```', _read('docs/library.md'), re.S | re.M)
  assert len(blocks) == 3
  scope = {}
  exec('\n'.join(blocks), scope)
  assert scope['canvas'].shape == (2, 16, 16, 6) and scope['samples'].shape == (5, 20, 12, 3)
  assert scope['noises'].shape == (2, 3) and scope['bound'].shape == (3,)
  assert scope['image'].shape == scope['coarse'].shape == (32, 40, 3)
  assert len(scope['file'].data) <= 1.5 * scope['image'].size / 8

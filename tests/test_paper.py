"""The names and links of docs/paper.md exist, and it lists all equations and figures."""

import ast
import os
import re

import pytest

from tests.program import ROOT

DOCS = os.path.join(ROOT, 'docs')

with open(os.path.join(DOCS, 'paper.md')) as f:
  TEXT = f.read()
NAMES = sorted(set(re.findall(r'\[`([\w.]+)`\]\(([^)]+)\)', TEXT)))


@pytest.mark.parametrize('name, link', NAMES)
def test_names_exist(name, link):
  module, *inside = name.split('.')
  path = os.path.normpath(os.path.join(DOCS, link))
  assert os.path.basename(path) == f'{module}.py'
  with open(path) as f:
    found = ast.parse(f.read())
  for part in inside:
    found = {node.name: node for node in found.body if hasattr(node, 'name')}[part]


def test_all_equations_and_figures_are_listed():
  assert set(map(int, re.findall(r'\((\d+)\)', TEXT))) == set(range(1, 13))
  assert set(re.findall(r'\| Figure (\d)', TEXT)) == set('12345') and '| Table 1 |' in TEXT
  assert len(NAMES) > 20

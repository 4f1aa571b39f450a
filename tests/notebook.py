"""Runs the cells of docs/codec.ipynb, as Jupyter would.

    python -m tests.notebook      after a change to a cell: stores what they print and show now
"""

import ast
import base64
import contextlib
import io
import json
import os

from tests.program import ROOT

PATH = os.path.join(ROOT, 'docs', 'codec.ipynb')


def read():
  with open(PATH) as f:
    return json.load(f)


def outputs(notebook):
  """Yields, of each cell of code, what it puts out: in Jupyter's format, a list."""
  scope = {}
  for cell in notebook['cells']:
    if cell['cell_type'] != 'code':
      continue
    tree = ast.parse(''.join(cell['source']))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
      exec(compile(tree, PATH, 'exec'), scope)
      value = eval(compile(ast.Expression(last.value), PATH, 'eval'), scope) if last else None
    found = []
    if printed.getvalue():
      text = printed.getvalue().splitlines(keepends=True)
      found.append({'output_type': 'stream', 'name': 'stdout', 'text': text})
    if value is not None:
      data = {'text/plain': [repr(value)]}
      if hasattr(value, '_repr_png_'):
        data = {'image/png': base64.b64encode(value._repr_png_()).decode(), 'text/plain': ['image']}
      found.append({'output_type': 'display_data', 'metadata': {}, 'data': data})
    yield found


def main():
  notebook = read()
  code = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
  for number, (cell, found) in enumerate(zip(code, outputs(notebook), strict=True), 1):
    cell |= {'outputs': found, 'execution_count': number}
  with open(PATH, 'w') as f:
    json.dump(notebook, f, indent=1)
    f.write('\n')


if __name__ == '__main__':
  main()

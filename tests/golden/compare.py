"""Whether two trees compute the same, to the last bit, on this machine.

  python -m tests.golden.compare OLD NEW [NAME ...]

OLD and NEW are checkouts; NAMEs are experiments and packaged models, default all. Each tree runs
its own tests/golden/measure.py, with this Python. Names that one tree alone has, and values that
differ, are listed with the largest difference; then the exit status is 1.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np


def measured(tree, names, path):
  """{name: array}: what a checkout computes."""
  subprocess.run(
      [sys.executable, '-m', 'tests.golden.measure', path, *names], cwd=tree, check=True,
      env=os.environ | {'PYTHONPATH': '.'})
  with np.load(path) as stored:
    return dict(stored)


def differences(old, new):
  """Lines about what differs between two {name: array}, and how many arrays were compared."""
  lines = [f'only in the {which} tree: {name}' for which, mine, other in (
      ('old', old, new), ('new', new, old)) for name in sorted(mine.keys() - other.keys())]
  shared = sorted(old.keys() & new.keys())
  for name in shared:
    a, b = old[name], new[name]
    if (a.shape, a.dtype) != (b.shape, b.dtype):
      lines.append(f'{name}: {a.dtype}{list(a.shape)} was, {b.dtype}{list(b.shape)} is')
    elif a.tobytes() != b.tobytes():
      off = abs(a.astype(np.float64) - b.astype(np.float64)).max()
      most = abs(a.astype(np.float64)).max()
      lines.append(f'{name}: differs by up to {off:.3g}; values are up to {most:.3g}')
  return lines, len(shared)


def main(old, new, *names):
  with tempfile.TemporaryDirectory() as folder:
    lines, count = differences(*(
        measured(tree, names, os.path.join(folder, f'{i}.npz'))
        for i, tree in enumerate((old, new))))
  print('\n'.join(lines))
  print(f'{count} arrays compared, {len(lines)} differences')
  return bool(lines)


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))

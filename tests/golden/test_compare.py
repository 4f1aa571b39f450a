import numpy as np

from tests.golden import compare


def test_what_differs_is_listed():
  old = {'a': np.zeros(2, np.float32), 'b': np.ones(3, np.float32), 'gone': np.ones(1),
         'shape': np.ones(1)}
  new = {'a': np.zeros(2, np.float32), 'b': np.array([1, 1, 1.5], np.float32), 'come': np.ones(1),
         'shape': np.ones(2)}
  lines, count = compare.differences(old, new)
  assert count == 3 and len(lines) == 4
  assert any('gone' in line and 'old' in line for line in lines)
  assert any('come' in line and 'new' in line for line in lines)
  assert 'b: differs by up to 0.5; values are up to 1' in lines
  assert compare.differences(old, old) == ([], 4)
  assert compare.differences({'a': np.float32([0.0])}, {'a': np.float32([-0.0])})[0]  # to the bit

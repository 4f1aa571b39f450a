"""docs/codec.ipynb says what its cells say today."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests import notebook

NUMBER = re.compile(r'\d[\d,]*\.?\d*')


def test_cells_put_out_what_the_notebook_shows():
  stored = notebook.read()
  code = [cell for cell in stored['cells'] if cell['cell_type'] == 'code']
  assert [cell['execution_count'] for cell in code] == list(range(1, 11))
  for cell, found in zip(code, notebook.outputs(stored), strict=True):
    assert len(found) == len(cell['outputs'])
    for a, b in zip(found, cell['outputs'], strict=True):
      if 'text' in a:
        a, b = (''.join(output['text']) for output in (a, b))
        assert NUMBER.sub('#', a) == NUMBER.sub('#', b)
        # Another machine's floats may differ, which moves some bytes of a file.
        for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True):
          assert _number(x) == pytest.approx(_number(y), rel=0.03, abs=0.011 if '.' in y else 8)
      else:
        a, b = map(_picture, (a, b))
        assert a.shape == b.shape and abs(a - b).mean() < 2


def test_a_cell_that_fails_is_not_passed_over():
  cells = [{'cell_type': 'code', 'source': ['x = 1\n', 'x + 1']},
           {'cell_type': 'markdown', 'source': ['text']},
           {'cell_type': 'code', 'source': ['print(x / 0)']}]
  found = notebook.outputs({'cells': cells})
  assert next(found)[0]['data']['text/plain'] == ['2']
  with pytest.raises(ZeroDivisionError):
    next(found)


def _number(text):
  return float(text.replace(',', ''))


def _picture(output):
  data = base64.b64decode(output['data']['image/png'])
  return np.asarray(Image.open(io.BytesIO(data)), np.float64)

"""Files on the disk."""

import pytest

from conv_draw.codec.format import reading
from conv_draw.errors import UserError
from tests.codec.format.damage import one_line


def test_what_is_no_file_or_too_long_is_not_read(tmp_path, monkeypatch):
  missing, long = tmp_path / 'missing' / 'x', tmp_path / 'long'
  for path in (missing, tmp_path):
    with pytest.raises(UserError) as error:
      reading.read_file(path)
    one_line(error, path)
  with open(long, 'wb') as f:
    f.truncate(2**31 + 1)  # sparse
  with pytest.raises(UserError) as error:
    reading.read_file(long)
  one_line(error, long, 2**31)
  monkeypatch.setattr(reading, 'MAX_FILE', 100)
  with pytest.raises(UserError, match='100'):
    reading.read_file('/dev/zero')
  with pytest.raises(UserError, match='101'):
    reading.check_size('x', bytes(101))

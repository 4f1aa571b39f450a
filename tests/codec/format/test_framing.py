"""What the codec's two kinds of files share: magic, numbers, checksums."""

import hashlib
import random

import pytest

from conv_draw.codec.format import framing
from conv_draw.errors import UserError
from tests.codec.format.damage import refused

MAGICS = framing.IMAGE_MAGIC, framing.ARCHIVE_MAGIC


def start(data, magic=framing.IMAGE_MAGIC):
  return framing.start(data, magic, 'x')


# The first bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize('magic', MAGICS)
def test_a_file_starts_with_its_magic_and_the_version(magic):
  cursor = start(magic + b'\1more', magic)
  assert (cursor.offset, cursor.take(4)) == (5, b'more')
  refused(start, b'', 'x is damaged', 'empty', magic=magic)
  for cut in range(1, 5):
    refused(start, magic[:cut], 'inside its header', magic=magic)
  for version in (0, 2, 255):
    refused(start, magic + bytes([version]), f'version {version}', magic=magic)


@pytest.mark.parametrize('magic', MAGICS)
def test_a_transfer_as_text_is_named(magic):
  data = magic + b'\1 and so on'
  for spoilt in (
      data.replace(b'\n', b'\r\n'), data.replace(b'\n', b'\r'), bytes(b & 127 for b in data),
      data.decode('latin1').encode(), data.decode('cp1252').encode(),
      data.decode(errors='replace').encode(), data.decode('ascii', 'replace').encode(),
      data.decode('latin1').encode('ascii', 'replace'),
      data.decode('latin1').replace('\n', '\r\n').encode()):
    for reader in MAGICS:
      refused(start, spoilt, 'as text', magic=reader)


def test_other_files_are_told_apart():
  image, archive = (magic + b'\1' for magic in MAGICS)
  refused(start, archive, 'an archive of images')
  refused(start, image, 'a single image', magic=framing.ARCHIVE_MAGIC)
  for other in (b'\x89PNG\r\n\x1a\n and so on', b'CD\nabc', b'CA\nNY\n', b'ABCDE', bytes(9)):
    refused(start, other, 'not a file of this codec')


# Numbers and checksums --------------------------------------------------------------------------


@pytest.mark.parametrize('number, data', [
    (0, '00'), (1, '01'), (127, '7f'), (128, '80 01'), (300, 'ac 02'), (16_383, 'ff 7f'),
    (16_384, '80 80 01'), (2**32 - 1, 'ff ff ff ff 0f'), (2**35 - 1, 'ff ff ff ff 7f')])
def test_numbers_have_one_form(number, data):
  data = bytes.fromhex(data)
  assert framing.varint(number) == data
  cursor = framing.Cursor(b'..' + data + b'..', 'x')
  cursor.offset = 2
  assert (cursor.varint(), cursor.offset) == (number, 2 + len(data))
  for cut in range(len(data)):
    with pytest.raises(framing.Cut):
      framing.Cursor(data[:cut], 'x').varint()
  longer = data[:-1] + bytes([data[-1] | 128, 0])
  with pytest.raises(UserError, match='x is damaged .*byte 0 is not in its shortest form'):
    framing.Cursor(longer, 'x').varint()


def test_bytes_are_a_number_no_number_or_a_cut_one():
  rng = random.Random(0)
  outcomes = {'number': 0, 'none': 0, 'cut': 0}
  for _ in range(5000):
    data = bytes(rng.choice((0, 1, 127, 128, 129, 255)) for _ in range(rng.randrange(8)))
    cursor = framing.Cursor(data, 'x')
    last = next((i for i, byte in enumerate(data[:5]) if byte < 128), None)
    if last is None and len(data) < 5:
      with pytest.raises(framing.Cut):
        cursor.varint()
      outcomes['cut'] += 1
    elif last is None or (last and not data[last]):
      refused(lambda _, cursor=cursor: cursor.varint(), data, 'shortest form')
      outcomes['none'] += 1
    else:
      number = sum((byte & 127) * 128**i for i, byte in enumerate(data[: last + 1]))
      assert (cursor.varint(), cursor.offset) == (number, last + 1)
      assert framing.varint(number) == data[: last + 1]
      outcomes['number'] += 1
  assert min(outcomes.values()) > 500, outcomes
  for number in (-1, 2**35):
    with pytest.raises(AssertionError):
      framing.varint(number)


def test_parts_are_taken_from_what_is_there():
  cursor = framing.Cursor(b'abcdef', 'x')
  assert (cursor.take(0), cursor.take(2), cursor.take(3)) == (b'', b'ab', b'cde')
  with pytest.raises(UserError, match='1 bytes follow its end at byte 5'):
    cursor.finish()
  for size in (2, 2**35):
    with pytest.raises(framing.Cut):
      cursor.take(size)
  assert cursor.take(1) == b'f'
  cursor.finish()


@pytest.mark.parametrize('size', [4, 8])
def test_checksums_cover_the_one_before(size):
  digest = hashlib.blake2b(b'before' + b'cde', digest_size=size).digest()
  assert framing.checksum(size, b'before', b'c', b'de') == digest

  def check(data, before=b'before', start=2):
    cursor = framing.Cursor(data, 'x')
    cursor.take(5)
    assert cursor.check(size, before, start, 'it') == digest
    assert cursor.offset == 5 + size

  data = b'abcde' + digest
  check(data)
  check(b'AB' + data[2:])
  for wrong in ((data[:-1] + bytes([data[-1] ^ 1]),), (b'abCde' + digest,), (data, b''),
                (data, b'before', 1)):
    with pytest.raises(UserError, match='checksum of it does not match'):
      check(*wrong)
  with pytest.raises(framing.Cut):
    check(data[:-1])

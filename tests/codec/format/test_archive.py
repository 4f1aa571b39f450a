"""Archives as bytes: what was written, or one line that says what is wrong."""

import itertools
import os
import random
import re
import time

import pytest

from conv_draw.codec.format import archive, container, framing
from conv_draw.codec.format.archive import Header
from conv_draw.errors import UserError
from tests.codec.format.damage import mutated, one_line
from tests.codec.format.damage import refused as refused_by

FORMAT = os.path.join(os.path.dirname(archive.__file__), 'FORMAT.md')
FINGERPRINT = bytes(range(8))
HEADER = Header(
    count=3, width=5, height=4, channels=1, grey_levels=17, initial_bits=64, seed=7,
    fingerprint=FINGERPRINT, name='digits')
NAMES = ['a.png', 'ü b.png', '...c']
IMAGE_HEADER = container.Header(
    mode=container.LOSSY, width=5, height=4, channels=1, grey_levels=17, groups=2, tile_side=0,
    grouping=container.EACH, seed=7, fingerprint=FINGERPRINT, name='digits')
IMAGE = container.write(IMAGE_HEADER, [container.Segment(container.LATENTS, 1, b'payload')])
DATA = archive.write(HEADER, NAMES, b'payload')
HEAD = 47 + len('digits')


def refused(data, *words, **options):
  refused_by(archive.read, data, *words, **options)


def forged(offset, new):
  """An archive with other bytes at an offset of its header, whose checksum is right again."""
  head = DATA[:offset] + new + DATA[offset + len(new) : HEAD - 8]
  return head + framing.checksum(8, head) + DATA[HEAD:]


def test_an_archive_holds_what_was_written():
  assert archive.read(DATA) == (HEADER, NAMES, b'payload')
  one = HEADER._replace(count=1, channels=3, seed=2**32 - 1, name='ü' * 127)
  assert archive.read(archive.write(one, ['x'], b'')) == (one, ['x'], b'')


def test_the_example_of_the_format_is_what_is_written():
  with open(FORMAT) as f:
    block = re.findall(r'```hex\n(.*?)```', f.read(), re.DOTALL)[2]
  example = bytes.fromhex(''.join(line.split('#')[0] for line in block.splitlines()))
  header = Header(
      count=2, width=8, height=8, channels=1, grey_levels=17, initial_bits=32, seed=0,
      fingerprint=FINGERPRINT, name='digits')
  assert archive.write(header, ['a.png', 'b.png'], b'\xaa\xbb\xcc') == example
  assert len(example) == 94


def test_every_flipped_bit_and_every_cut_is_noticed():
  for i, bit in itertools.product(range(len(DATA)), range(8)):
    data = bytearray(DATA)
    data[i] ^= 1 << bit
    refused(bytes(data))
  for cut in range(len(DATA)):
    refused(DATA[:cut], 'x.cdrawa', source='x.cdrawa')
  refused(DATA[: HEAD - 1], 'inside its header')
  refused(DATA[:HEAD], 'cut short')
  refused(DATA[:-1], 'cut short')
  refused(DATA + b'\0', '1 bytes follow')
  refused(DATA[:4] + b'\x02' + DATA[5:], 'version 2')
  refused(IMAGE, 'single image')


def test_parts_of_another_archive_are_refused():
  other = archive.write(HEADER, ['b.png', *NAMES[1:]], b'payload')
  payload = 8 + 7 + 8  # length, payload, checksum
  refused(DATA[:-payload] + other[-payload:], 'checksum of its images')
  other = archive.write(HEADER._replace(seed=8), NAMES, b'payload')
  refused(DATA[:HEAD] + other[HEAD:], 'checksum of its file names')


def test_mutations_give_the_original_or_an_error():
  rng = random.Random(1)
  other = archive.write(HEADER, NAMES[::-1], b'other payload')
  refusals = 0
  for _ in range(3000):
    data = mutated(rng, DATA, [other, IMAGE])
    try:
      header, names, payload = archive.read(data)
    except UserError as e:
      assert '\n' not in str(e)
      refusals += 1
    else:
      assert data in (DATA, other)
      assert archive.write(header, names, payload) == data
  assert 2000 < refusals < 3000


@pytest.mark.parametrize('name', [
    '', '.', '..', 'a/b', '/etc', 'a\\b', 'two\nlines', 'nul\0', '\u202egnp.exe', 'x' * 256,
    '\udcff.png', 'b.png'])
def test_file_names_that_are_no_plain_names_or_twice_there_are_refused(name):
  names = ['b.png', name]
  header = HEADER._replace(count=2)
  with pytest.raises(UserError) as error:
    archive.write(header, names, b'')
  one_line(error, 'the archive', 'name')
  head = archive.write(header, ['x', 'y'], b'')[:HEAD]
  encoded = [n.encode(errors='surrogateescape') for n in names]
  table = b''.join(len(n).to_bytes(2, 'little') + n for n in encoded)
  table_checksum = framing.checksum(8, head[-8:], table)
  refused(
      head + table + table_checksum + bytes(8) + framing.checksum(8, table_checksum, bytes(8)),
      ' name')


@pytest.mark.parametrize('offset, new, words', [
    (5, b'\2', 'flags 0x02'), (6, b'\xff' * 4, f'{2**32 - 1} images'), (6, bytes(4), '0 images'),
    (10, b'\xff' * 8, 'it can be 1 to 65535'), (14, bytes(4), '5 x 0'), (18, b'\2', '2 channels'),
    (19, b'\0\0', '0 pixel values'), (39, b'\xff', 'UTF-8'), (39, b'\n', r"'\n")])
def test_absurd_headers_are_refused(offset, new, words):
  start = time.process_time()
  refused(forged(offset, new), words)
  assert time.process_time() - start < 1


def test_an_absurd_count_ends_with_the_data():
  count = 2**33 // 20
  refused(forged(6, count.to_bytes(4, 'little')), 'cut short')

"""The codec's files: what was written, a prefix of it, or one line that says what is wrong."""

import itertools
import os
import random
import re
import stat
import time
import tracemalloc

import pytest

from conv_draw.codec import container
from conv_draw.codec.container import ArchiveHeader, Header, Segment
from conv_draw.errors import UserError

FORMAT = os.path.join(os.path.dirname(container.__file__), 'FORMAT.md')
FINGERPRINT = bytes(range(16))
HEADER = Header(
    mode=container.LOSSLESS, width=5, height=4, channels=3, levels=256, groups=3, tile=0, seed=7,
    fingerprint=FINGERPRINT, name='dígits')
ARCHIVE = ArchiveHeader(
    count=3, width=5, height=4, channels=1, levels=17, initial_bits=64, seed=7,
    fingerprint=FINGERPRINT, name='digits')
NAMES = ['a.png', 'ü b.png', '...c']


def segments_of(header, seed=0):
  rng = random.Random(seed)
  order = [(container.LATENTS, t) for t in range(1, header.groups + 1)]
  if header.mode == container.LOSSLESS:
    order.append((container.PIXELS, container.PIXELS_INDEX))
  return [Segment(kind, index, rng.randbytes(rng.randrange(9))) for kind, index in order]


def prefixes_of(header, segments):
  """Every file that a cut between segments can leave, with its segments."""
  return {
      container.write(header, segments[:n]): segments[:n] for n in range(len(segments) + 1)}


def forged(data, offset, new, size):
  """A header with other bytes at an offset and a checksum that is right again."""
  head = data[: size - container.CHECKSUM]
  head = head[:offset] + new + head[offset + len(new) :]
  return head + container._checksum(head) + data[size:]


def one_line(error, *words):
  """Checks that an error is one line that says all of `words`."""
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert str(word) in message, message


def refused(data, *words, read=container.read, **options):
  with pytest.raises(UserError) as error:
    read(data, **options)
  one_line(error, *words)


SEGMENTS = segments_of(HEADER)
DATA = container.write(HEADER, SEGMENTS)
HEAD = len(container.write(HEADER, []))
ARCHIVE_DATA = container.write_archive(ARCHIVE, NAMES, b'payload')
ARCHIVE_HEAD = len(container._archive_header_bytes(ARCHIVE))


# What was written -------------------------------------------------------------------------------


@pytest.mark.parametrize('changes', [
    {}, {'mode': container.LOSSY}, {'name': ''}, {'name': 'x' * 255}, {'channels': 1, 'levels': 2},
    {'width': 65_535, 'height': 1024, 'tile': 64}, {'groups': 300, 'seed': 2**32 - 1},
])
def test_a_file_holds_what_was_written(changes):
  header = HEADER._replace(**changes)
  segments = segments_of(header)
  data = container.write(header, segments)
  assert container.read(data) == (header, segments)
  assert container.read(data, partial=True) == (header, segments)


def test_the_example_of_the_format_is_what_is_written():
  with open(FORMAT) as f:
    blocks = re.findall(r'```hex\n(.*?)```', f.read(), re.DOTALL)
  example, archive = (
      bytes.fromhex(''.join(line.split('#')[0] for line in block.splitlines()))
      for block in blocks)
  header = Header(
      mode=1, width=8, height=8, channels=1, levels=17, groups=2, tile=0, seed=0,
      fingerprint=FINGERPRINT, name='digits')
  segments = [
      Segment(container.LATENTS, 1, b'\xaa\xbb'), Segment(container.LATENTS, 2, b''),
      Segment(container.PIXELS, container.PIXELS_INDEX, b'\xcc')]
  assert container.write(header, segments) == example
  header = ArchiveHeader(
      count=2, width=8, height=8, channels=1, levels=17, initial_bits=32, seed=0,
      fingerprint=FINGERPRINT, name='digits')
  assert container.write_archive(header, ['a.png', 'b.png'], b'\xaa\xbb\xcc') == archive


def test_segments_are_written_in_order_only():
  for wrong in (SEGMENTS[1:], SEGMENTS[::-1], [*SEGMENTS, SEGMENTS[-1]], SEGMENTS[:2] * 2):
    with pytest.raises(AssertionError):
      container.write(HEADER, wrong)


@pytest.mark.parametrize('changes, words', [
    ({'width': 0}, ['0 x 4']), ({'width': 65_536, 'height': 1}, ['65536 x 1', '65535']),
    ({'width': 65_535, 'height': 1025}, ['65535 x 1025', container.MAX_PIXELS]),
    ({'channels': 2}, ['2 channels']), ({'levels': 257}, ['257']), ({'groups': 0}, ['0 groups']),
    ({'seed': -1}, ['seed -1']), ({'name': 'two\nlines'}, [r'two\nlines']),
    ({'name': 'ü' * 128}, ['255']), ({'name': '\ud800'}, ['name']), ({'tile': -1}, ['tile']),
])
def test_what_the_format_cannot_hold_is_not_written(changes, words):
  with pytest.raises(UserError) as error:
    container.write(HEADER._replace(**changes), [])
  one_line(error, 'the image', *words)


# Cut files --------------------------------------------------------------------------------------


def test_a_cut_leaves_the_segments_before_it():
  prefixes = prefixes_of(HEADER, SEGMENTS)
  starts = sorted(map(len, prefixes))
  for cut in range(len(DATA)):
    data = DATA[:cut]
    if cut < HEAD:
      refused(data, 'name.cdraw', 'header' if cut else 'empty', source='name.cdraw')
      refused(data, partial=True)
      continue
    before = SEGMENTS[: sum(start <= cut for start in starts) - 1]
    if data in prefixes:
      assert container.read(data) == (HEADER, before)
    else:
      refused(data, '--partial', f'{len(before)} of 4', 'name.cdraw', source='name.cdraw')
    assert container.read(data, partial=True) == (HEADER, before)


def test_a_cut_tail_that_belongs_elsewhere_is_damage():
  boundary = len(container.write(HEADER, SEGMENTS[:1]))
  refused(DATA[:boundary] + b'\x02', 'latents 2', partial=True)
  refused(DATA[:boundary] + b'\x01\x03', 'latents 2', partial=True)


# Damaged files ----------------------------------------------------------------------------------


def test_every_flipped_bit_is_noticed():
  lengths = set()  # bytes whose damage looks like a cut
  for segments in prefixes_of(HEADER, SEGMENTS).values():
    start = len(container.write(HEADER, segments)) + 3
    lengths |= set(range(start, start + 4))
  for i, bit in itertools.product(range(len(DATA)), range(8)):
    data = bytearray(DATA)
    data[i] ^= 1 << bit
    refused(bytes(data))
    if i not in lengths:
      refused(bytes(data), partial=True)
    else:
      try:
        header, segments = container.read(bytes(data), partial=True)
      except UserError:
        continue
      assert header == HEADER and segments == SEGMENTS[: len(segments)]
      assert len(container.write(HEADER, segments)) <= i


def test_messages_say_what_is_wrong():
  refused(b'\x89PNG\r\n\x1a\n and so on', 'not a file of this codec')
  refused(DATA.replace(b'\r\n', b'\n'), 'as text')
  refused(DATA.decode('latin1').encode(), 'as text')
  refused(bytes(b & 127 for b in DATA), 'as text')
  refused(DATA[:8] + b'\x02' + DATA[9:], 'version 2')
  refused(DATA[:20] + b'\x00' + DATA[21:], "header's checksum")
  refused(DATA + b'more', '4 bytes follow')
  refused(DATA + b'more', '4 bytes follow', partial=True)
  refused(DATA[:-1] + bytes([DATA[-1] ^ 1]), 'checksum of pixels')
  refused(ARCHIVE_DATA, 'archive')
  refused(DATA, 'single image', read=container.read_archive)
  refused(forged(DATA, 21, b'\x80', HEAD), 'flags 0x80')
  refused(forged(DATA, 9, b'\x02', HEAD), 'mode 2')
  refused(forged(DATA, 50, b'\xff', HEAD), 'UTF-8')
  refused(forged(DATA, 50, b'\n', HEAD), r"'\n")


@pytest.mark.parametrize('offset, new', [
    (10, b'\xff' * 8), (10, bytes(4)), (14, bytes(4)), (10, b'\xff\xff\0\0\xff\xff\0\0'),
    (10, b'\0\0\1\0\1\0\0\0'), (18, b'\0'), (18, b'\4'), (19, b'\1\0'), (19, b'\1\1'),
    (22, bytes(2)), (22, b'\xff\xff'), (24, b'\0\0\1\0'), (HEAD + 3, b'\xff' * 4)])
def test_absurd_numbers_are_refused_before_anything_is_allocated(offset, new):
  data = DATA[:offset] + new + DATA[offset + len(new) :]
  if offset < HEAD:
    data = forged(DATA, offset, new, HEAD)
  start = time.perf_counter()
  tracemalloc.start()
  refused(data)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2**20
  assert time.perf_counter() - start < 1


def test_segments_of_other_files_and_in_other_orders_are_refused():
  segments = [s._replace(payload=b'same') for s in SEGMENTS]
  data = container.write(HEADER, segments)
  size = (len(data) - HEAD) // len(segments)
  head, parts = data[:HEAD], [data[i : i + size] for i in range(HEAD, len(data), size)]
  for order in itertools.chain(
      itertools.permutations(range(4)), itertools.product(range(4), repeat=5)):
    if order != (0, 1, 2, 3):
      refused(head + b''.join(parts[i] for i in order))
  refused(head + b''.join(parts[1:]), 'latents 1')
  refused(head + parts[0] + parts[0], 'latents 2')
  refused(head + b''.join((*parts[:2], parts[3])), 'latents 3')  # pixels need all latents

  other = container.write(HEADER._replace(seed=8), segments)
  refused(head + other[HEAD:], 'checksum of latents 1')
  refused(data[:-size] + other[-size:], 'checksum of pixels')
  # Another image coded by the same model has the very same header.
  other = container.write(HEADER, [segments[0]._replace(payload=b'else'), *segments[1:]])
  refused(data[: HEAD + size] + other[HEAD + size :], 'checksum of latents 2')
  refused(data[:-size] + other[-size:], 'checksum of pixels')


def mutated(rng, data, others):
  """One random change of a file."""
  a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
  other = rng.choice(others)
  kind = rng.randrange(7)
  if kind == 0:  # flipped bits
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
      data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)
  return {
      1: data[:a],
      2: data[:a] + data[b:],
      3: data[:a] + data[b:c] + data[a:b] + data[c:],
      4: data[:a] + rng.randbytes(rng.randrange(20)) + data[a:],
      5: data[:a] + other[rng.choice((a, rng.randrange(len(other)))) :],
      6: data[:a] + other[a:b] + data[b:],
  }[kind]


def test_ten_thousand_mutations_give_the_original_or_an_error():
  rng = random.Random(0)
  headers = HEADER, HEADER, HEADER._replace(seed=8), HEADER._replace(mode=container.LOSSY)
  contents = [(h, segments_of(h, seed)) for seed, h in enumerate(headers)]
  files = [container.write(*content) for content in contents]
  # Whole other files may come out of splices: all that were written, or their prefixes, will do.
  valid = {
      data: (header, part)
      for header, segments in contents for data, part in prefixes_of(header, segments).items()}
  starts = [
      (header, segments[:n]) for header, segments in contents for n in range(len(segments) + 1)]
  outcomes = {'read': 0, 'read partially': 0, 'refused': 0}
  start = time.perf_counter()
  for _ in range(10_000):
    data = mutated(rng, files[0], files[1:])
    if rng.random() < 0.2:  # at a boundary, where most goes unnoticed if anything does
      data = rng.choice([prefix for prefix in valid]) + data[rng.randrange(len(data) + 1) :]
    try:
      assert container.read(data) == valid[data]
      outcomes['read'] += 1
    except UserError as e:
      assert '\n' not in str(e)
      assert data not in valid
    try:
      result = container.read(data, partial=True)
      assert result in starts
      assert data.startswith(container.write(*result))
      outcomes['read partially'] += 1
    except UserError:
      outcomes['refused'] += 1
  assert time.perf_counter() - start < 5
  assert min(outcomes.values()) > 100, outcomes


# Archives ---------------------------------------------------------------------------------------


def read_archive(data):
  return container.read_archive(data)


def test_an_archive_holds_what_was_written():
  assert read_archive(ARCHIVE_DATA) == (ARCHIVE, NAMES, b'payload')
  empty = container.write_archive(ARCHIVE._replace(count=1), ['x'], b'')
  assert read_archive(empty) == (ARCHIVE._replace(count=1), ['x'], b'')


def test_every_flipped_bit_and_every_cut_of_an_archive_is_noticed():
  for i, bit in itertools.product(range(len(ARCHIVE_DATA)), range(8)):
    data = bytearray(ARCHIVE_DATA)
    data[i] ^= 1 << bit
    refused(bytes(data), read=read_archive)
  for cut in range(len(ARCHIVE_DATA)):
    refused(ARCHIVE_DATA[:cut], 'x.cdrawa', read=container.read_archive, source='x.cdrawa')
  refused(ARCHIVE_DATA + b'\0', '1 bytes follow', read=read_archive)
  refused(ARCHIVE_DATA[:8] + b'\x02' + ARCHIVE_DATA[9:], 'version 2', read=read_archive)


def test_parts_of_another_archive_are_refused():
  other = container.write_archive(ARCHIVE, ['b.png', *NAMES[1:]], b'payload')
  payload = 8 + 7 + 8  # length, payload, checksum
  refused(ARCHIVE_DATA[:-payload] + other[-payload:], 'images', read=read_archive)
  other = container.write_archive(ARCHIVE._replace(seed=8), NAMES, b'payload')
  refused(ARCHIVE_DATA[:ARCHIVE_HEAD] + other[ARCHIVE_HEAD:], 'names', read=read_archive)


def test_mutations_of_an_archive_give_the_original_or_an_error():
  rng = random.Random(1)
  other = container.write_archive(ARCHIVE, NAMES[::-1], b'other payload')
  refusals = 0
  for _ in range(3000):
    data = mutated(rng, ARCHIVE_DATA, [other, DATA])
    try:
      header, names, payload = read_archive(data)
    except UserError as e:
      assert '\n' not in str(e)
      refusals += 1
    else:
      assert data in (ARCHIVE_DATA, other)
      assert container.write_archive(header, names, payload) == data
  assert refusals > 2000


@pytest.mark.parametrize('name', [
    '', '.', '..', 'a/b', '/etc', 'a\\b', 'two\nlines', 'nul\0', '\u202egnp.exe', 'x' * 256,
    '\udcff.png', 'b.png'])
def test_file_names_that_are_no_plain_names_or_twice_there_are_refused(name):
  names = ['b.png', name]
  with pytest.raises(UserError) as error:
    container.write_archive(ARCHIVE._replace(count=2), names, b'')
  one_line(error, 'the archive', 'name')
  head = container._archive_header_bytes(ARCHIVE._replace(count=2))
  encoded = [n.encode(errors='surrogateescape') for n in names]
  table = b''.join(len(n).to_bytes(2, 'little') + n for n in encoded)
  table_checksum = container._checksum(head[-8:], table)
  data = head + table + table_checksum + bytes(8)
  data += container._checksum(table_checksum, bytes(8))
  refused(data, 'name', read=read_archive)


@pytest.mark.parametrize('offset, new', [
    (9, b'\1'), (10, b'\xff' * 4), (10, bytes(4)), (14, b'\xff' * 8), (22, b'\2'), (23, b'\0\0')])
def test_absurd_numbers_of_an_archive_are_refused(offset, new):
  start = time.perf_counter()
  refused(forged(ARCHIVE_DATA, offset, new, ARCHIVE_HEAD), read=read_archive)
  assert time.perf_counter() - start < 1


# Files ------------------------------------------------------------------------------------------


def test_files_are_written_whole_with_the_usual_permissions(tmp_path):
  path = tmp_path / 'x.cdraw'
  container.write_file(path, b'before')
  container.write_file(path, DATA)
  assert container.read_file(path) == DATA
  assert os.listdir(tmp_path) == ['x.cdraw']
  (tmp_path / 'plain').write_bytes(b'')
  assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / 'plain').stat().st_mode)
  link = tmp_path / 'link'
  link.symlink_to(path)
  container.write_file(link, b'through')
  assert link.is_symlink() and path.read_bytes() == b'through'


@pytest.mark.parametrize('function', ['replace', 'fsync'])
@pytest.mark.parametrize('error, shown', [
    (OSError(28, 'No space left on device'), UserError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, function, error, shown):
  def fail(*_):
    raise error

  monkeypatch.setattr(os, function, fail)
  path = tmp_path / 'x.cdraw'
  with pytest.raises(shown) as raised:
    container.write_file(path, DATA)
  assert os.listdir(tmp_path) == []
  path.write_bytes(b'before')
  with pytest.raises(shown):
    container.write_file(path, DATA)
  assert os.listdir(tmp_path) == ['x.cdraw'] and path.read_bytes() == b'before'
  if shown is UserError:
    one_line(raised, path, 'No space left')


def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path, monkeypatch):
  missing, fifo, long = tmp_path / 'missing' / 'x', tmp_path / 'fifo', tmp_path / 'long'
  os.mkfifo(fifo)
  for path in (missing, tmp_path, fifo):
    with pytest.raises(UserError) as error:
      container.write_file(path, DATA)
    one_line(error, path)
  assert stat.S_ISFIFO(fifo.stat().st_mode)
  for path in (missing, tmp_path):
    with pytest.raises(UserError) as error:
      container.read_file(path)
    one_line(error, path)
  with open(long, 'wb') as f:
    f.truncate(2**31 + 1)  # sparse
  with pytest.raises(UserError) as error:
    container.read_file(long)
  one_line(error, long, 2**31)
  monkeypatch.setattr(container, 'MAX_FILE', 100)
  with pytest.raises(UserError, match='100'):
    container.read_file('/dev/zero')
  with pytest.raises(UserError, match='101'):
    container.write_file(tmp_path / 'x', bytes(101))


# For people -------------------------------------------------------------------------------------


def test_the_description_adds_up():
  text = container.describe(HEADER, SEGMENTS)
  assert f'total        {len(DATA)} bytes, {8 * len(DATA) / 60:.4f} bits/dim' in text
  assert '3 of 3, and the pixels (complete)' in text
  assert FINGERPRINT.hex() in text and 'dígits' in text and '5 x 4' in text
  for n, segment in enumerate(SEGMENTS, 1):
    name = f'latents {segment.index}' if segment.kind == container.LATENTS else 'pixels'
    size = len(container.write(HEADER, SEGMENTS[:n]))
    assert re.search(rf'^{name} +{len(segment.payload)} +{size} ', text, re.MULTILINE)
  assert '1 of 3 (the rest' in container.describe(HEADER, SEGMENTS[:1])
  assert '3 of 3 (the rest' in container.describe(HEADER, SEGMENTS[:3])
  assert '0 of 3 (the rest' in container.describe(HEADER._replace(tile=64), [])


def test_the_description_of_an_archive_adds_up():
  text = container.describe_archive(ARCHIVE, NAMES, b'payload', max_names=2)
  assert f'total        {len(ARCHIVE_DATA)} bytes, {8 * len(ARCHIVE_DATA) / 60:.4f}' in text
  assert 'ü b.png' in text and '...c' not in text and 'and 1 more' in text
  assert FINGERPRINT.hex() in text

"""One image as bytes: what was written, a prefix of it, or one line that says what is wrong."""

import hashlib
import itertools
import os
import random
import re
import time
import tracemalloc

import pytest

from conv_draw.codec.format import container
from conv_draw.codec.format.container import Header, Segment
from conv_draw.codec.format.framing import varint
from conv_draw.codec.format.limits import MAX_PIXELS
from conv_draw.errors import UserError
from tests.codec.format.damage import mutated, one_line
from tests.codec.format.damage import refused as refused_by

FORMAT = os.path.join(os.path.dirname(container.__file__), 'FORMAT.md')
FINGERPRINT = bytes(range(8))
HEADER = Header(
    mode=container.LOSSLESS, width=5, height=4, channels=3, grey_levels=256, groups=3, tile_side=0,
    grouping=container.EACH, seed=7, fingerprint=FINGERPRINT, name='dígits')
DOUBLING = HEADER._replace(groups=11, grouping=container.DOUBLING)
FULL = HEADER._replace(  # all that can be stored, and the longest numbers
    width=65_535, height=1024, grey_levels=17, groups=300, tile_side=20_000,
    grouping=container.DOUBLING, seed=2**32 - 1)
NOTHING = HEADER._replace(mode=container.LOSSY, channels=1, seed=0, name='')
WRITTEN = HEADER._replace(jax=(0, 10, 200))


def segments_of(header, seed=0):
  rng = random.Random(seed)
  order = [(container.LATENTS, t) for t in container.ends(header)]
  if header.mode == container.LOSSLESS:
    order.append((container.PIXELS, container.PIXELS_INDEX))
  # Of numbers of one and of two bytes.
  return [
      Segment(kind, index, rng.randbytes(130 if i == 1 else rng.randrange(9)))
      for i, (kind, index) in enumerate(order)]


def prefixes_of(header, segments):
  """Every file that a cut between segments can leave, with its segments."""
  return {
      container.write(header, segments[:n]): segments[:n] for n in range(len(segments) + 1)}


def digest(data):
  return hashlib.blake2b(data, digest_size=4).digest()


def raw(magic=b'\x93CD\n', version=b'\1', flags=0x13, width=b'\5', height=b'\4', groups=b'\3',
        optional=b'\7', fingerprint=FINGERPRINT, length=b'\7', name='dígits'.encode()):
  """The bytes of `HEADER`, or of what no `Header` stands for, with a checksum that is right."""
  head = b''.join((
      magic, version, bytes([flags]), width, height, groups, optional, fingerprint, length, name))
  return head + digest(head)


def refused(data, *words, **options):
  refused_by(container.read, data, *words, **options)


SEGMENTS = segments_of(HEADER)
DATA = container.write(HEADER, SEGMENTS)
HEAD = len(raw())


# What was written -------------------------------------------------------------------------------


@pytest.mark.parametrize('header', [
    HEADER, DOUBLING, FULL, NOTHING, WRITTEN, HEADER._replace(name='x' * 255),
    HEADER._replace(channels=1, grey_levels=2), HEADER._replace(groups=300),
    HEADER._replace(groups=0)])
def test_a_file_holds_what_was_written(header):
  segments = segments_of(header)
  data = container.write(header, segments)
  assert container.read(data) == (header, segments)
  assert container.read(data, partial=True) == (header, segments)


def test_the_examples_of_the_format_are_what_is_written():
  with open(FORMAT) as f:
    blocks = re.findall(r'```hex\n(.*?)```', f.read(), re.DOTALL)
  whole, head = (
      bytes.fromhex(''.join(line.split('#')[0] for line in block.splitlines()))
      for block in blocks[:2])
  header = Header(
      mode=1, width=8, height=8, channels=1, grey_levels=17, groups=2, tile_side=0,
      grouping=container.EACH, seed=0, fingerprint=FINGERPRINT, name='digits')
  segments = [
      Segment(container.LATENTS, 1, b'\xaa\xbb'), Segment(container.LATENTS, 2, b''),
      Segment(container.PIXELS, container.PIXELS_INDEX, b'\xcc')]
  assert container.write(header, segments) == whole
  assert list(map(len, prefixes_of(header, segments))) == [29, 36, 41, 47]
  assert whole[25:29] == digest(whole[:25])
  assert whole[32:36] == digest(whole[25:32])
  assert whole[37:41] == digest(whole[32:37])
  header = Header(
      mode=0, width=640, height=480, channels=3, grey_levels=32, groups=32, tile_side=256,
      grouping=container.DOUBLING, seed=1000, fingerprint=FINGERPRINT, name='')
  assert container.write(header, []) == head


def test_segments_are_written_in_order_only():
  for wrong in (SEGMENTS[1:], SEGMENTS[::-1], [*SEGMENTS, SEGMENTS[-1]], SEGMENTS[:2] * 2):
    with pytest.raises(AssertionError):
      container.write(HEADER, wrong)
  with pytest.raises(AssertionError):
    container.write(DOUBLING, segments_of(DOUBLING._replace(grouping=container.EACH)))


@pytest.mark.parametrize('changes, words', [
    ({'width': 0}, ['0 x 4']), ({'width': 65_536, 'height': 1}, ['65536 x 1', '65535']),
    ({'width': 65_535, 'height': 1025}, ['65535 x 1025', MAX_PIXELS]), ({'mode': 2}, ['mode 2']),
    ({'channels': 2}, ['2 channels']), ({'grey_levels': 257}, ['257']),
    ({'groups': 0, 'mode': 0}, ['0 groups']), ({'groups': 0, 'grouping': 2}, ['way 2']),
    ({'seed': -1}, ['seed -1']), ({'seed': 2**32}, ['seed']), ({'name': 'two\nlines'}, [r'two\n']),
    ({'name': 'ü' * 128}, ['255']), ({'name': '\ud800'}, ['name']), ({'tile_side': -1}, ['tile']),
    ({'grouping': 3}, ['way 3']),
])
def test_what_the_format_cannot_hold_is_not_written(changes, words):
  with pytest.raises(UserError) as error:
    container.write(HEADER._replace(**changes), [])
  one_line(error, 'the image', *words)


def test_ends():
  def ends(groups, grouping):
    return container.ends(HEADER._replace(groups=groups, grouping=grouping))

  assert ends(1, container.EACH) == ends(1, container.DOUBLING) == [1]
  assert ends(2, container.EACH) == ends(2, container.DOUBLING) == [1, 2]
  assert ends(5, container.ALL) == [5]
  assert ends(5, container.EACH) == [1, 2, 3, 4, 5]
  assert ends(3, container.DOUBLING) == [1, 2, 3]
  assert ends(4, container.DOUBLING) == [1, 2, 4]
  assert ends(5, container.DOUBLING) == [1, 2, 4, 5]
  assert ends(8, container.DOUBLING) == [1, 2, 4, 8]
  assert ends(32, container.DOUBLING) == [1, 2, 4, 8, 16, 32]
  assert ends(33, container.DOUBLING) == [1, 2, 4, 8, 16, 32, 33]


# One form ---------------------------------------------------------------------------------------


def test_every_header_has_a_form_of_its_own_and_the_size_that_the_format_says():
  size = lambda number: max(1, -(-number.bit_length() // 7))
  forms = set()
  fields = itertools.product(
      (0, 1), ((1, 127), (128, 16_383), (16_384, 4096)), (1, 3), (2, 255, 256), (1, 128, 65_534),
      (0, 1, 128, 65_535), (0, 1, 2), (0, 1, 127, 2**32 - 1), ('', 'dígits'))
  count = 0
  for mode, dims, channels, grey_levels, groups, tile, grouping, seed, name in fields:
    header = Header(
        mode, *dims, channels, grey_levels, groups, tile, grouping, seed, FINGERPRINT, name)
    data = container.write(header, [])
    assert container.read(data) == (header, [])
    assert len(data) == (
        19 + sum(map(size, dims)) + size(groups) + (grey_levels != 256) + (tile and size(tile))
        + (seed and size(seed)) + len(name.encode()))
    forms.add(data)
    count += 1
  assert len(forms) == count > 1000


@pytest.mark.parametrize('fields, words', [
    ({'width': b'\x85\0'}, 'byte 6 is not in its shortest'),
    ({'width': b'\x85\x80\x80\x80\0'}, 'shortest'),
    ({'width': b'\x85\x80\x80\x80\x80\0'}, 'shortest'),
    ({'width': b'\x85\x80\x80\x80\x80\1'}, 'shortest'),
    ({'height': b'\x84\0'}, 'byte 7 is not in its shortest'),
    ({'groups': b'\x83\0'}, 'shortest'), ({'optional': b'\x87\0'}, 'shortest'),
    ({'flags': 0x1B, 'optional': b'\x85\0\7'}, 'shortest'),
    ({'optional': b'\0'}, 'its shortest form'),  # seed 0
    ({'flags': 0x1B, 'optional': b'\0\7'}, 'its shortest form'),  # tile 0
    ({'flags': 0x17, 'optional': b'\xff\7'}, 'its shortest form'),  # 256 grey levels
    ({'flags': 0x17, 'optional': b'\0\7'}, '1 pixel values'),
    ({'flags': 0x73}, 'way 3'), ({'flags': 0x93, 'optional': b'\7\0\x80\0\1'}, 'shortest'),
    ({'flags': 0xFF, 'optional': b'\1\1\1\0\1\2'}, 'way 3'), ({'version': b'\2'}, 'version 2'),
    ({'name': b'd\xffgits\0'}, 'UTF-8'), ({'name': b'\xc0\xaf12345'}, 'UTF-8'),
    ({'name': b'\nabcdef'}, r"'\n"), ({'length': b'\6'}, 'checksum of its header'),
    ({'length': b'\xff'}, 'inside its header'),
])
def test_what_no_header_stands_for_is_refused(fields, words):
  assert raw() == DATA[:HEAD]
  data = raw(**fields)
  refused(data, words)
  refused(data, words, partial=True)


@pytest.mark.parametrize('header', [HEADER, FULL, NOTHING])
def test_what_is_read_of_any_header_is_written_the_same(header):
  """With every byte replaced, left out, or put in, and a checksum that is right."""
  head = container.write(header, [])[:-4]
  read = refusals = 0
  parts = [b'', *(bytes([byte]) for byte in range(256))]
  for i, part, width in itertools.product(range(len(head)), parts, range(2)):
    data = head[:i] + part + head[i + width :]
    data += digest(data)
    try:
      result = container.read(data)
    except UserError as e:
      assert '\n' not in str(e)
      refusals += 1
    else:
      assert container.write(*result) == data
      read += 1
  assert min(read, refusals) > 1000


# Cut files --------------------------------------------------------------------------------------


@pytest.mark.parametrize('header', [HEADER, DOUBLING, NOTHING])
def test_a_cut_leaves_the_segments_before_it(header):
  segments = segments_of(header)
  whole = container.write(header, segments)
  prefixes = prefixes_of(header, segments)
  starts = sorted(map(len, prefixes))
  for cut in range(len(whole)):
    data = whole[:cut]
    if cut < starts[0]:
      refused(data, 'name.cdraw', 'header' if cut else 'empty', source='name.cdraw')
      refused(data, partial=True)
      continue
    before = segments[: sum(start <= cut for start in starts) - 1]
    if data in prefixes:
      assert container.read(data) == (header, before)
    else:
      refused(
          data, '--partial', f'({len(before)} of {len(segments)} segments)', 'name.cdraw',
          source='name.cdraw')
    assert container.read(data, partial=True) == (header, before)


def test_a_tail_that_is_no_segment_is_a_cut_unless_its_length_shows_otherwise():
  head = container.write(HEADER, SEGMENTS[:1])
  for tail in (b'\x80', b'\x09', b'\x7f and more', b'\xff\xff\xff\xff\x7f' + bytes(99)):
    refused(head + tail, 'inside latents 2', '(1 of 4 segments)')
    assert container.read(head + tail, partial=True) == (HEADER, SEGMENTS[:1])
  refused(head + b'\x80\0', 'shortest form', partial=True)
  refused(head + b'\0' * 5, 'checksum of latents 2', partial=True)


# Damaged files ----------------------------------------------------------------------------------


@pytest.mark.parametrize('header', [HEADER, DOUBLING])
def test_every_flipped_bit_is_noticed(header):
  written = segments_of(header)
  whole = container.write(header, written)
  lengths = set()  # bytes whose damage may look like a cut
  for n, segment in enumerate(written):
    start = len(container.write(header, written[:n]))
    lengths |= set(range(start, start + len(varint(len(segment.payload)))))
  cuts = 0
  for i, bit in itertools.product(range(len(whole)), range(8)):
    data = bytearray(whole)
    data[i] ^= 1 << bit
    refused(bytes(data))
    if i not in lengths:
      refused(bytes(data), partial=True)
    else:
      try:
        back, segments = container.read(bytes(data), partial=True)
      except UserError:
        continue
      cuts += 1
      assert back == header and segments == written[: len(segments)]
      assert len(container.write(header, segments)) <= i
  assert cuts > 5


def test_messages_say_what_is_wrong():
  refused(DATA.replace(b'\n', b'\r\n'), 'as text')
  refused(DATA[:20] + b'\x00' + DATA[21:], 'checksum of its header')
  refused(DATA[:5] + b'\xd3' + DATA[6:], 'damaged')
  refused(DATA + b'more', '4 bytes follow')
  refused(DATA + b'more', '4 bytes follow', partial=True)
  refused(DATA[:-1] + bytes([DATA[-1] ^ 1]), 'checksum of pixels')
  data = container.write(DOUBLING, segments_of(DOUBLING)[:3])
  refused(data[:-1] + bytes([data[-1] ^ 1]), 'checksum of latents 3-4')
  refused(b'\x93CA\n' + DATA[4:], 'archive')


@pytest.mark.parametrize('fields, words', [
    ({'width': varint(2**35 - 1), 'height': varint(2**35 - 1)}, f'{2**35 - 1} x {2**35 - 1}'),
    ({'width': b'\0'}, '0 x 4'), ({'height': b'\0'}, '5 x 0'),
    ({'width': varint(65_536)}, '65536 x 4'), ({'height': varint(65_536)}, '5 x 65536'),
    ({'width': varint(65_535), 'height': varint(65_535)}, MAX_PIXELS),
    ({'width': varint(8192), 'height': varint(8193)}, MAX_PIXELS),
    ({'groups': b'\0', 'flags': 0x12}, '0 groups'),
    ({'groups': b'\0', 'flags': 0x33}, 'way 1'), ({'groups': varint(65_535)}, '65535 groups'),
    ({'groups': varint(2**35 - 1)}, 'groups'), ({'optional': varint(2**32)}, f'seed {2**32}'),
    ({'flags': 0x1B, 'optional': varint(65_536) + b'\7'}, 'tiles of 65536'),
    ({'flags': 0x1B, 'optional': varint(2**35 - 1) + b'\7'}, 'tiles of'), ({}, 'inside latents 1'),
    ({'groups': varint(65_534)}, '0 of 65535 segments'),
    ({'groups': varint(65_534), 'flags': 0x33}, '0 of 18 segments')])
def test_absurd_numbers_are_refused_before_anything_is_allocated(fields, words):
  data = raw(**fields) + varint(2**35 - 1) + bytes(99)
  start = time.process_time()
  tracemalloc.start()
  refused(data, words)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2**19
  assert time.process_time() - start < 1


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


def forged(rng):
  """`DATA` or its header with other fields, of which some are absurd, and a checksum for them."""
  fields = {}
  for name in rng.sample(('width', 'height', 'groups', 'optional'), 2):
    fields[name] = varint(rng.getrandbits(rng.choice((1, 3, 7, 8, 16, 17, 32, 35))))
  name, value = rng.choice((
      ('flags', rng.randrange(256)), ('optional', rng.randbytes(rng.randrange(8))),
      ('name', rng.randbytes(7)), ('fingerprint', rng.randbytes(8))))
  if rng.random() < 0.5:
    fields[name] = value
  return raw(**fields) + rng.choice((b'', DATA[HEAD:]))


def test_ten_thousand_mutations_give_the_original_or_an_error():
  rng = random.Random(0)
  headers = (
      HEADER, HEADER, HEADER._replace(seed=8), HEADER._replace(mode=container.LOSSY),
      HEADER._replace(grouping=container.DOUBLING))
  contents = [(h, segments_of(h, seed)) for seed, h in enumerate(headers)]
  files = [container.write(*content) for content in contents]
  # Whole other files may come out of splices: all that were written, or their prefixes, will do.
  valid = {
      data: (header, part)
      for header, segments in contents for data, part in prefixes_of(header, segments).items()}
  starts = [
      (header, segments[:n]) for header, segments in contents for n in range(len(segments) + 1)]
  outcomes = {
      'read': 0, 'read partially': 0, 'refused': 0, 'forged read': 0, 'forged refused': 0}
  start = time.process_time()
  for _ in range(10_000):
    if rng.random() < 0.2:
      data = forged(rng)
      try:
        result = container.read(data)
        assert container.write(*result) == data
        assert result == (result[0], []) or data in valid
        outcomes['forged read'] += 1
      except UserError as e:
        assert '\n' not in str(e)
        assert data not in valid
        outcomes['forged refused'] += 1
      continue
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
  assert time.process_time() - start < 30
  assert min(outcomes.values()) > 100, outcomes

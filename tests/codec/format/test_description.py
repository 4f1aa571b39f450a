"""What people are told of a file."""

import json
import re

import pytest

from conv_draw.codec.format import archive, container, description
from tests.codec.format.damage import refused
from tests.codec.format.test_archive import DATA as ARCHIVE
from tests.codec.format.test_archive import HEADER as ARCHIVE_HEADER
from tests.codec.format.test_archive import NAMES
from tests.codec.format.test_container import DOUBLING, FINGERPRINT, HEADER, segments_of

LOSSY = HEADER._replace(mode=container.LOSSY)


@pytest.mark.parametrize('header, labels', [
    (HEADER, ['latents 1', 'latents 2', 'latents 3', 'pixels']),
    (DOUBLING, ['latents 1', 'latents 2', 'latents 3-4', 'latents 5-8', 'latents 9-11', 'pixels'])])
def test_the_description_of_an_image_adds_up(header, labels):
  segments = segments_of(header)
  size = len(container.write(header, segments))
  text = description.describe_image(header, segments)
  assert f'total        {size} bytes, {8 * size / 60:.4f} bits/dim' in text
  assert f'{header.groups} of {header.groups}, and the pixels (complete)' in text
  assert FINGERPRINT.hex() in text and 'dígits' in text and '5 x 4' in text
  for n, (label, segment) in enumerate(zip(labels, segments, strict=True), 1):
    size = len(container.write(header, segments[:n]))
    line = rf'^{label} +{len(segment.payload)} +{size} +{8 * size / 60:.4f}$'
    assert re.search(line, text, re.MULTILINE)


def test_the_description_of_a_cut_file_says_what_is_left():
  assert '1 of 3 (the rest' in description.describe_image(HEADER, segments_of(HEADER)[:1])
  assert '3 of 3 (the rest' in description.describe_image(HEADER, segments_of(HEADER)[:3])
  assert '0 of 3 (the rest' in description.describe_image(HEADER._replace(tile_side=64), [])
  assert '8 of 11 (the rest' in description.describe_image(DOUBLING, segments_of(DOUBLING)[:4])


def test_the_description_of_an_archive_adds_up():
  text = description.describe_archive(ARCHIVE_HEADER, NAMES, b'payload', max_names=2)
  assert f'total        {len(ARCHIVE)} bytes, {8 * len(ARCHIVE) / 60:.4f}' in text
  assert 'ü b.png' in text and '...c' not in text and 'and 1 more' in text
  assert FINGERPRINT.hex() in text


def test_files_of_either_kind_are_described(tmp_path):
  path = tmp_path / 'x'
  image = container.write(LOSSY, segments_of(LOSSY)[:1])
  path.write_bytes(ARCHIVE)
  archive = description.describe_archive(ARCHIVE_HEADER, NAMES, b'payload')
  assert description.describe_file(path) == archive
  path.write_bytes(image)
  text = description.describe_file(path)
  assert text == description.describe_image(*container.read(image))
  path.write_bytes(image + b'\x09')
  refused(description.describe_file, path, path, 'inside latents 2')
  assert description.describe_file(path, partial=True) == text
  path.write_bytes(b'else')
  refused(description.describe_file, path, path, 'not a file of this codec')


def test_programs_are_told_the_same(tmp_path):
  path = str(tmp_path / 'x')
  with open(path, 'wb') as f:
    f.write(container.write(HEADER, segments_of(HEADER)[:2]))
  found = json.loads(json.dumps(description.fields(path)))
  assert found['width'] == HEADER.width and found['model'] == HEADER.name
  assert not found['complete'] and found['groups'] == HEADER.groups and len(found['segments']) == 2
  last = found['segments'][-1]
  assert last['bytes_so_far'] == found['bytes'] > last['payload_bytes'] > 0
  with open(path, 'wb') as f:
    f.write(archive.write(ARCHIVE_HEADER, NAMES, b'payload'))
  found = json.loads(json.dumps(description.fields(path)))
  assert found['mode'] == 'archive' and found['names'] == list(NAMES)
  assert found['images'] == len(NAMES)

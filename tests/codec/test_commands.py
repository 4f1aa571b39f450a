"""What files.py does with files, by a tiny model of random weights in this process."""

import base64
import io
import json
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

from conv_draw import ConvDraw, GaussianPixels
from conv_draw.codec import coder as coder_lib
from conv_draw.codec import files, viewer
from conv_draw.codec.format import container
from conv_draw.errors import UserError
from tests.codec.test_lossy import SIZE, trained


@pytest.fixture(scope='module')
def coder():
  return coder_lib.Coder(*trained(3, pixels=GaussianPixels(256)), 'tiny')


@pytest.fixture(autouse=True)
def load(coder, monkeypatch):
  """'none' is no model: what is refused with it is refused before anything is loaded."""
  def loaded(workdir):
    assert workdir != 'none', 'no model was due yet'
    return coder

  monkeypatch.setattr(coder_lib.Coder, 'load', loaded)


def picture(path, seed=0, mode='RGB'):
  pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
  Image.fromarray(pixels).convert(mode).save(path)
  return path


def encode(*arguments, **options):
  return list(files.encode(*arguments, 'tiny', **options))


def decode(*arguments, **options):
  return list(files.decode(*arguments, 'tiny', **options))


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def same_pixels(a, b):
  return np.array_equal(*(np.asarray(Image.open(path).convert('RGB')) for path in (a, b)))


@pytest.mark.parametrize('link', [None, os.symlink, os.link])
@pytest.mark.parametrize('overwrite', [False, True])
def test_no_command_replaces_what_it_reads(tmp_path, link, overwrite):
  for name in ('a.png', 'coded.cdraw'):
    original = picture(tmp_path / name) if name == 'a.png' else tmp_path / name
    original.write_bytes(original.read_bytes() if original.exists() else b'coded')
    other = original
    if link:
      other = tmp_path / f'link of {name}'
      link(original, other)
    before = contents(tmp_path)
    for command, paths in ((files.encode, (original, other)), (files.encode, (other, original)),
                           (files.decode, (original, other)), (files.archive, (tmp_path, other))):
      if command is files.archive and name != 'a.png':
        continue
      with pytest.raises(UserError, match='would replace what it is made from'):
        list(command(*paths, 'none', overwrite=overwrite))
    assert contents(tmp_path) == before


def test_files_are_overwritten_only_if_that_is_asked_for(tmp_path):
  source, coded, back = picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw', tmp_path / 'back.png'
  scratch = tmp_path / 'a.cdraw.tmp'
  scratch.write_bytes(b'of someone else')
  encode(source, coded, lossless=True)
  decode(coded, back)
  before = contents(tmp_path)
  for command, paths in ((files.encode, (source, coded)), (files.decode, (coded, back)),
                         (files.archive, (tmp_path, coded))):
    with pytest.raises(UserError, match=f'{paths[1].name} would be overwritten.*--overwrite'):
      list(command(*paths, 'none'))
  assert contents(tmp_path) == before
  encode(source, coded, groups=1, overwrite=True)
  decode(coded, back, overwrite=True)
  assert coded.read_bytes() != before['a.cdraw'] and not same_pixels(source, back)
  assert scratch.read_bytes() == b'of someone else' and len(contents(tmp_path)) == 4


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path, coder, monkeypatch):
  source, coded = picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw'
  whole = coder.encode

  def slow(*arguments, **options):
    coded.write_bytes(b'of someone else')
    return whole(*arguments, **options)

  monkeypatch.setattr(coder, 'encode', slow)
  with pytest.raises(UserError, match='would be overwritten'):
    encode(source, coded)
  assert contents(tmp_path) == {'a.png': source.read_bytes(), 'a.cdraw': b'of someone else'}


def test_a_folder_coded_into_itself_keeps_its_originals(tmp_path):
  for i in range(3):
    picture(tmp_path / f'{i}.png', i)
  originals = contents(tmp_path)
  encode(tmp_path, tmp_path, groups=1)
  with pytest.raises(UserError, match='0.png and 2 more would be overwritten'):
    list(files.decode(tmp_path, tmp_path, 'none'))
  (tmp_path / '0.cdraw').unlink()
  with pytest.raises(UserError, match='1.cdraw and 1 more would be overwritten'):
    list(files.encode(tmp_path, tmp_path, 'none'))  # and not even 0.cdraw is written
  after = contents(tmp_path)
  assert set(after) == {'0.png', '1.png', '2.png', '1.cdraw', '2.cdraw'}
  assert {name: after[name] for name in originals} == originals


@pytest.mark.parametrize('at_once', [1, 3])
def test_one_bad_file_does_not_stop_a_folder(tmp_path, coder, at_once, monkeypatch):
  monkeypatch.setattr(files, '_at_once', lambda coder: at_once)
  folder, out, back = (tmp_path / name for name in ('in', 'out', 'back'))
  (folder / 'sub').mkdir(parents=True)
  for i, name in enumerate(('a.png', 'c.gif', 'd.TIF', 'e.tga', 'z.ppm')):
    picture(folder / name, i, 'L' if name == 'c.gif' else 'RGB')
  (folder / 'b.png').write_bytes((folder / 'a.png').read_bytes()[:70])
  Image.new('I;16', (9, 7)).save(folder / 'deep.png')
  (folder / 'f.png').symlink_to('none')
  (folder / 'notes.txt').write_text('none')
  (folder / '.hidden.png').write_text('none')

  lines = encode(folder, out, lossless=True)
  failures = [line.text for line in lines if line.failed]
  assert [line.failed for line in lines] == [i in (1, 4, 6) for i in range(10)]
  for name, text in zip(('b', 'deep', 'f'), failures, strict=True):
    assert str(folder / f'{name}.png') in text
  size = sum(len(data) for data in contents(out).values())
  assert lines[-2].text.startswith(f'5 images, {size:,} bytes, ')
  assert lines[-2].text.endswith('; 3 failed')
  assert lines[-1].text.endswith('left out 2 other files: notes.txt, sub')
  assert sorted(contents(out)) == ['a.cdraw', 'c.cdraw', 'd.cdraw', 'e.cdraw', 'z.cdraw']

  (out / 'd.cdraw').write_bytes((out / 'd.cdraw').read_bytes()[:-3])
  lines = decode(out, back)
  assert [line.failed for line in lines] == [False, False, True, False, False, False]
  assert 'd.cdraw' in lines[2].text and lines[-1].text == '4 files decoded; 1 failed'
  for name in ('a.png', 'c.gif', 'e.tga', 'z.ppm'):
    assert same_pixels(folder / name, back / f'{name[0]}.png')
  with pytest.raises(UserError, match='holds no files that end in .png'):
    list(files.encode(out, tmp_path / 'new', 'none'))
  assert not (tmp_path / 'new').exists()


def test_a_failure_names_its_file(tmp_path, coder, monkeypatch):
  for i in range(2):
    picture(tmp_path / f'{i}.png', i)

  def fail(*_, **__):
    raise UserError('the image is too beautiful')

  monkeypatch.setattr(coder, 'encode', fail)
  lines = encode(tmp_path, tmp_path / 'new')
  assert [str(tmp_path / f'{i}.png') in lines[i].text for i in range(2)] == [True, True]
  assert lines[2].text.startswith('0 images, 0 bytes') and not (tmp_path / 'new').exists()


def test_what_is_not_kept_is_said_on_stderr(tmp_path):
  exif = Image.Exif()
  exif[0x010F] = 'camera'
  for i in range(3):
    picture(tmp_path / f'{i}.png', i)
  for name, options in (('1.png', {}), ('2.png', dict(icc_profile=b'none'))):
    with Image.open(tmp_path / name) as image:
      image.save(tmp_path / name, exif=exif, **options)
  lines = encode(tmp_path, tmp_path / 'new')
  assert [line.note for line in lines] == [False] * 4 + [True] and not lines[-1].failed
  assert lines[-1].text == (
      f'pixels alone are kept, not EXIF of {tmp_path}/1.png and 1 more, '
      f'ICC profile of {tmp_path}/2.png')
  assert len(encode(tmp_path / '0.png', tmp_path / 'new.cdraw')) == 1


def test_pipes_are_read(tmp_path):
  source, coded, back = picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw', tmp_path / 'back.png'
  for code, old, new in ((encode, source, coded), (decode, coded, back)):
    out, into = os.pipe()
    os.write(into, old.read_bytes())
    os.close(into)
    try:
      code(f'/dev/fd/{out}', new, **(dict(lossless=True) if code is encode else {}))
    finally:
      os.close(out)
  assert same_pixels(source, back)
  out, into = os.pipe()
  os.close(into)
  with pytest.raises(UserError, match=f'/dev/fd/{out} cannot be read as an image') as error:
    encode(f'/dev/fd/{out}', tmp_path / 'b.cdraw')
  os.close(out)
  assert 'BytesIO' not in str(error.value) and not (tmp_path / 'b.cdraw').exists()


def test_a_target_that_is_a_folder_gets_the_file(tmp_path):
  source, new = picture(tmp_path / 'a.png'), tmp_path / 'new'
  encode(source, f'{new}{os.sep}')
  decode(new / 'a.cdraw', new)  # exists by now
  assert sorted(contents(new)) == ['a.cdraw', 'a.png']
  for command, paths, words in (
      (files.encode, (source, f'{tmp_path}/none/b.cdraw'), 'there is no folder'),
      (files.encode, (tmp_path / 'none.png', new), 'none.png does not exist'),
      (files.encode, (tmp_path, source), 'is no folder'),
      (files.encode, (source, f'{source}/'), 'is no folder'),
      (files.encode, (tmp_path, f'{source}/new'), 'a.png is no folder'),
      (files.archive, (tmp_path, f'{tmp_path}/none/'), 'is a folder'),
      (files.archive, (tmp_path, new), 'is a folder')):
    with pytest.raises(UserError, match=words):
      list(command(*paths, 'none', overwrite=True))


def test_rates_and_numbers_of_groups(tmp_path, coder):
  source, coded = picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw'
  sizes = []
  for options, words in ((dict(groups=0), '0 of 3 groups'), (dict(groups=1), '1 of 3 groups'),
                         (dict(groups=3), '3 of 3 groups')):
    line, = encode(source, coded, overwrite=True, **options)
    assert words in line.text
    sizes.append(coded.stat().st_size)
  assert sizes == sorted(set(sizes))
  before = coded.read_bytes()
  for rate in (0.0, 8 * (sizes[1] - 0.5) / (7 * 9 * 3)):
    least = np.ceil(8 * sizes[1] / (7 * 9 * 3) * 1e4) / 1e4
    with pytest.raises(UserError, match=f'a.png takes {least:.4f} bits/dim with its first group'):
      encode(source, coded, bits_per_dim=rate, overwrite=True)
  with pytest.raises(UserError, match='4 groups were asked for, and the model tiny has 3'):
    encode(source, coded, groups=4, overwrite=True)
  assert coded.read_bytes() == before
  line, = encode(source, coded, bits_per_dim=least, overwrite=True)
  assert '1 of 3 groups' in line.text and coded.stat().st_size == sizes[1]


def test_limits_that_are_not_met_are_said(tmp_path):
  source, coded = picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw'
  [line] = encode(source, coded)
  most = line.fields
  for limits, numbers in (
      (dict(psnr=most['psnr_db'] + 1), (most['psnr_db'], most['psnr_db'] + 1)),
      (dict(psnr=1e9), (most['psnr_db'], 1e9)),
      (dict(bits_per_dim=100.0), (round(most['bits_per_dim'], 4), 100)),
      (dict(bits_per_dim=most['bits_per_dim'] * 0.99, groups=3), (2, 3))):
    line, note = encode(source, coded, overwrite=True, **limits)
    assert note.note and not note.failed and not line.note and str(coded) in note.text
    for number in numbers:
      assert re.search(rf'\b{re.escape(f"{number:.2f}".rstrip("0").rstrip("."))}', note.text) or (
          f'{number:g}' in note.text)
  for limits in (dict(psnr=most['psnr_db']), dict(psnr=0.0), dict(groups=3), dict(groups=0),
                 dict(bits_per_dim=most['bits_per_dim']), dict(lossless=True)):
    assert len(encode(source, coded, overwrite=True, **limits)) == 1
  (tmp_path / 'some').mkdir()
  for i in range(3):
    picture(tmp_path / 'some' / f'{i}.png', i)
  *_, note = encode(tmp_path / 'some', tmp_path / 'new', psnr=1e9)
  assert note.note and '0.cdraw' in note.text and note.text.endswith('; 2 more likewise')


def test_what_a_format_cannot_hold_is_refused_before_decoding(tmp_path, coder, monkeypatch):
  monkeypatch.setattr(coder, 'decode', lambda *_, **__: pytest.fail('decoded'))
  (tmp_path / 'a.cdraw').write_bytes(b'not read')
  for name in ('a.pdf', 'a.eps', 'a.xbm', 'a.ico', 'a.gif', 'a.psd', 'a.xyz', 'a'):
    with pytest.raises(UserError, match=f'{name} .*end it in .png'):
      list(files.decode(tmp_path / 'a.cdraw', tmp_path / name, 'none'))
  for width, name, channels in ((16_384, 'a.webp', 3), (65_501, 'a.jpg', 1), (32_769, 'a.avif', 3),
                                (9, 'a.pgm', 3)):
    header = container.Header(
        container.LOSSY, width, 1, channels, 256, 3, 0, container.EACH, 0, bytes(8), 'tiny')
    (tmp_path / 'a.cdraw').write_bytes(container.write(header, []))
    with pytest.raises(UserError, match=f'{name} would'):
      decode(tmp_path / 'a.cdraw', tmp_path / name)
  assert sorted(contents(tmp_path)) == ['a.cdraw']


def test_formats_that_change_pixels_are_said_to(tmp_path):
  encode(picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw', lossless=True)
  for name, exact in (('b.png', True), ('b.webp', True), ('b.jpg', False)):
    line, = decode(tmp_path / 'a.cdraw', tmp_path / name)
    assert line.text.endswith('lossless' if exact else 'decoded exactly, but JPEG changes pixels')


def test_two_files_of_one_name_are_both_coded(tmp_path):
  folder, coded, back = (tmp_path / name for name in ('in', 'out', 'back'))
  folder.mkdir()
  for seed, name in enumerate(('a.png', 'a.bmp', 'b.png')):
    picture(folder / name, seed)
  encode(folder, coded, lossless=True)
  assert sorted(contents(coded)) == ['a.bmp.cdraw', 'a.png.cdraw', 'b.cdraw']
  decode(coded, back)
  for old, new in (('a.png', 'a.png.png'), ('a.bmp', 'a.bmp.png'), ('b.png', 'b.png')):
    assert same_pixels(folder / old, back / new)


@pytest.mark.parametrize('error, words', [(0, 'PSNR inf dB'), (1, 'PSNR 24.08 dB')])
def test_exact_images_have_no_finite_psnr(error, words):
  """Of 17 grey levels: 20 log10 16 = 24.08."""
  image = np.full((4, 4, 1), 3, np.uint8)
  model = ConvDraw(channels=1, pixels=GaussianPixels(17), iterations=2)
  coded = coder_lib.Encoded(b'data', None, [], image + np.uint8(error))
  assert words in files._report('a.cdraw', image, coded, model, lossless=False)[0]


def test_what_was_coded_is_said_to_programs_too(tmp_path):
  [line] = encode(picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw', groups=2)
  fields = line.fields
  data = (tmp_path / 'a.cdraw').read_bytes()
  assert (fields['height'], fields['width']) == SIZE and fields['bytes'] == len(data)
  assert fields['bits_per_dim'] == 8 * len(data) / (3 * SIZE[0] * SIZE[1])
  assert fields['segments'] == 2 and not fields['lossless'] and 3 < fields['psnr_db'] < 60
  [line] = decode(tmp_path / 'a.cdraw', tmp_path / 'b.png')
  assert line.fields['groups'] == 2 and line.fields['file'] == str(tmp_path / 'b.png')
  json.dumps([fields, line.fields])
  (tmp_path / 'some').mkdir()
  for i in range(2):
    picture(tmp_path / 'some' / f'{i}.png', i)
  *each, summary = encode(tmp_path / 'some', tmp_path / 'coded', lossless=True)
  assert [line.fields['psnr_db'] for line in each] == [None, None] and summary.fields is None


@pytest.mark.parametrize('lossless', [False, True])
def test_a_file_has_a_page(tmp_path, coder, lossless, capsysbinary):
  encode(picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw', lossless=lossless)
  [line] = files.view(tmp_path / 'a.cdraw', workdir='tiny')
  text = (tmp_path / 'a.html').read_text()
  data = (tmp_path / 'a.cdraw').read_bytes()
  count = len(container.read(data)[1])
  assert line.fields['segments'] == count and line.fields['bytes'] == len(text.encode())
  assert f'{count} of {count} segments' in text and f': {len(data):,} bytes' in text
  frames = json.loads(re.search(r'<output.*?json">(.*?)</script>', text)[1])[0]
  assert len(frames) == count + 1 and len({frame['src'] for frame in frames}) == count + 1
  last = base64.b64decode(frames[-1]['src'].partition(',')[2])
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(last))), coder.decode(data)[0])
  for again in (None, tmp_path / 'a.cdraw'):
    with pytest.raises(UserError, match='would'):
      list(files.view(tmp_path / 'a.cdraw', again, 'tiny'))
  list(files.view(tmp_path / 'a.cdraw', tmp_path / 'b.html', 'tiny'))
  assert (tmp_path / 'b.html').read_text() == text
  [line] = files.view(tmp_path / 'a.cdraw', '-', 'tiny')
  assert capsysbinary.readouterr().out == text.encode() and line.note


def test_the_page_of_a_large_picture_shows_some_truncation_points(tmp_path, coder, monkeypatch):
  monkeypatch.setattr(viewer, 'MAX_PIXELS', 1)
  monkeypatch.setattr(viewer, 'LEAST_FRAMES', 3)
  encode(picture(tmp_path / 'a.png'), tmp_path / 'a.cdraw')
  list(files.view(tmp_path / 'a.cdraw', workdir='tiny'))
  text = (tmp_path / 'a.html').read_text()
  frames = json.loads(re.search(r'<output.*?json">(.*?)</script>', text)[1])[0]
  assert len(frames) == 3
  decoded = coder.decode((tmp_path / 'a.cdraw').read_bytes())[0]
  last = base64.b64decode(frames[-1]['src'].partition(',')[2])
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(last))), decoded)


def test_of_several_files_progress_says_which_one(tmp_path, monkeypatch):
  said = io.StringIO()
  said.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', said)
  (tmp_path / 'some').mkdir()
  for i in range(2):
    picture(tmp_path / 'some' / f'{i}.png', i)
  list(encode(tmp_path / 'some', tmp_path / 'coded'))
  assert f'1/2 {tmp_path}/some/0.png: ' in said.getvalue()
  assert f'2/2 {tmp_path}/some/1.png: ' in said.getvalue()
  said.truncate(0)
  list(decode(tmp_path / 'coded' / '0.cdraw', tmp_path / 'x.png'))
  assert f'{files.ERASED}{tmp_path}/coded/0.cdraw: ' in said.getvalue()
  assert said.getvalue().endswith(files.ERASED)
  said.truncate(0)
  with pytest.raises(UserError, match='more than'):
    list(encode(tmp_path / 'some' / '0.png', tmp_path / 'y.cdraw', bits_per_dim=0.001))
  assert said.getvalue().endswith(files.ERASED)

"""The codec's real command line, in child processes; test_commands.py has more of it, in none."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.program import QUICK, ROOT

TINY = (
    '--config=experiments/digits.py', '--config.data.name=folder', '--config.model.features=4',
    '--config.model.steps=2', '--config.model.latents=2', '--config.train.batch_size=2',
    '--config.train.steps=2', '--config.evaluate.max_images=2', '--config.figures.samples=1')


def call(*arguments, **variables):
  # Without LLVM's optimisations, which take longer than these models run.
  environment = os.environ | {'XLA_FLAGS': QUICK} | variables
  done = subprocess.run(
      [sys.executable, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True,
      timeout=300)
  return done.returncode, done.stdout, done.stderr


def codec(*arguments, **variables):
  return call('-m', 'conv_draw.codec', *map(str, arguments), **variables)


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
  """(directory, with a folder of images, an archive of it, and two runs; what `archive` said)."""
  directory = tmp_path_factory.mktemp('archive')
  (directory / 'data').mkdir()
  for i in range(8):
    pixels = np.random.default_rng(i).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(directory / 'data' / f'{i}.png')
  for name, seed, posterior in (
      ('run', 0, 'gaussian'), ('other', 1, 'gaussian'), ('bins', 0, 'uniform')):
    status, _, error = call(
        'launch.py', *TINY, f'--config.data.data_dir={directory}/data',
        f'--workdir={directory}/{name}', f'--config.train.seed={seed}',
        f'--config.model.posterior={posterior}')
    assert status == 0, error
  (directory / 'images').mkdir()
  for i in range(3):
    pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(directory / 'images' / f'{i}.png')
  status, out, error = codec(
      'archive', directory / 'images', directory / 'a.cdrawa', f'--workdir={directory}/run')
  assert status == 0, error
  return directory, out


def test_another_process_extracts_the_same_images(setting):
  directory, out = setting
  assert '3 images of 24x20' in out and 'gross' in out
  size = os.path.getsize(directory / 'a.cdrawa')
  assert f'{size:,} bytes' in out
  status, _, error = codec(
      'extract', directory / 'a.cdrawa', directory / 'back', f'--workdir={directory}/run')
  assert status == 0, error
  for i in range(3):
    np.testing.assert_array_equal(
        np.asarray(Image.open(directory / 'back' / f'{i}.png')),
        np.asarray(Image.open(directory / 'images' / f'{i}.png')))


def test_one_image_lossless_and_cut(setting):
  directory, _ = setting
  source, file, back = (directory / name for name in ('images/1.png', 'b.cdraw', 'b.png'))
  run = f'--workdir={directory}/bins'
  status, out, error = codec('encode', source, file, run, '--lossless')
  assert status == 0, error
  assert f'{os.path.getsize(file):,} bytes' in out and 'lossless' in out
  status, out, error = codec('decode', file, back, run)
  assert status == 0 and 'lossless' in out, error
  np.testing.assert_array_equal(np.asarray(Image.open(back)), np.asarray(Image.open(source)))

  cut = directory / 'cut.cdraw'
  cut.write_bytes(file.read_bytes()[:-5])
  status, _, error = codec('decode', cut, back, run, '--overwrite')
  assert status == 2 and 'partial' in error
  status, out, error = codec('decode', cut, back, run, '--partial', '--overwrite')
  assert status == 0 and '2 of 2 groups' in out, error
  assert np.asarray(Image.open(back)).shape == (20, 24, 3)
  status, out, error = codec('info', cut, '--partial')
  assert status == 0 and '24' in out, error


@pytest.mark.parametrize('variables', [
    dict(XLA_FLAGS='--xla_cpu_max_isa=AVX2'), dict(JAX_NUM_CPU_DEVICES='8'),
    dict(XLA_FLAGS='--xla_cpu_multi_thread_eigen=false')])
def test_other_ways_to_compute_decode_the_same(setting, tmp_path, variables):
  directory, _ = setting
  source, file, back = directory / 'images/2.png', tmp_path / 'd.cdraw', tmp_path / 'd.png'
  run = f'--workdir={directory}/bins'
  assert codec('encode', source, file, run, '--lossless')[0] == 0
  status, _, error = codec('decode', file, back, run, **variables)
  assert status == 0, error
  np.testing.assert_array_equal(np.asarray(Image.open(back)), np.asarray(Image.open(source)))


def test_folders_tiles_and_grey(setting):
  """Every image of a folder by one process, decoded by another; tiled, and with grey among them."""
  directory, _ = setting
  run = f'--workdir={directory}/bins'
  (directory / 'several').mkdir()
  for name, size, mode in (('a', (20, 24), 'RGB'), ('b', (24, 20), 'RGB'), ('c', (9, 30), 'L')):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(directory / 'several' / f'{name}.png')
  status, out, error = codec(
      'encode', directory / 'several', directory / 'coded', run, '--lossless', '--tile=12')
  assert status == 0, error
  total = sum(os.path.getsize(directory / 'coded' / f'{name}.cdraw') for name in 'abc')
  assert out.splitlines()[-1].startswith(f'3 images, {total:,} bytes')
  status, out, error = codec('decode', directory / 'coded', directory / 'again', run)
  assert status == 0, error
  for name in 'abc':
    np.testing.assert_array_equal(
        np.asarray(Image.open(directory / 'again' / f'{name}.png')),
        np.asarray(Image.open(directory / 'several' / f'{name}.png')))


def test_study(setting):
  """The whole rate-distortion study on a few tiny images: files that say what they should."""
  directory, _ = setting
  out = directory / 'study'
  status, text, error = call(
      '-m', 'conv_draw.codec.study', f'--workdir={directory}/bins', '--images=2', f'--out={out}')
  assert status == 0, error
  for words in ('Lossy, sheet', 'Lossless, bits/dim', 'images/s', 'JPEG 2000', 'ours'):
    assert words in text
  assert (out / 'study.png').stat().st_size > 10_000
  with open(out / 'study.csv') as f:
    rows = list(csv.DictReader(f))
  ours = [r for r in rows if r['codec'] == 'ours' and r['protocol'] == 'single']
  assert [r['setting'] for r in ours] == ['0 groups', '1 groups', '2 groups', 'lossless']
  sizes = [float(r['bits_per_dim']) for r in ours]
  assert sizes[0] < sizes[1] < sizes[2] < sizes[3]
  assert float(ours[3]['psnr_db']) == np.inf and 'SSIM' in rows[0]
  assert {r['codec'] for r in rows if r['lossless'] == '1'} == {
      'ours', 'PNG', 'WebP', 'JPEG 2000', 'JPEG XL'}


def test_study_of_several_runs_is_one_curve_of_lossy_files(setting):
  directory, _ = setting
  shutil.copytree(directory / 'bins', directory / 'more', dirs_exist_ok=True)
  runs, out = (f'{directory}/bins', f'{directory}/more'), directory / 'curve'
  status, _, error = call('-m', 'conv_draw.codec.study', *runs, f'--workdir={runs[0]}')
  assert status == 2 and '--workdir' in error and not out.exists(), error
  status, _, error = call('-m', 'conv_draw.codec.study', runs[0], f'{ROOT}/conv_draw/pretrained/'
                          'cifar10_lossless', '--images=2', f'--out={out}')
  assert status == 2 and 'cifar10_lossless writes no lossy files' in error and not out.exists()
  status, tables, error = call(
      '-m', 'conv_draw.codec.study', *runs, '--images=2', '--protocol=sheet', f'--out={out}')
  assert status == 0, error
  assert 'model bins and more' in tables and 'Lossless, bits/dim' not in tables
  with open(out / 'study.csv') as f:
    rows = [row for row in csv.DictReader(f) if row['codec'] == 'ours']
  assert [row['setting'] for row in rows] == [
      f'{groups} groups of {name}' for name in ('bins', 'more') for groups in range(3)]
  # The same model under another name: files of the same images.
  assert [row['psnr_db'] for row in rows[:3]] == [row['psnr_db'] for row in rows[3:]]


def test_study_of_the_packaged_model_asks_for_its_data_in_its_own_words(tmp_path):
  status, out, error = call('-m', 'conv_draw.codec.study', f'--data_dir={tmp_path}')
  assert status == 2 and out == '' and len(error.splitlines()) == 1, error
  assert 'cifar10' in error and 'set --data_dir' in error


def test_info_needs_no_model(setting):
  directory, _ = setting
  status, out, error = codec('info', directory / 'a.cdrawa')
  assert status == 0, error
  assert 'run' in out and '3' in out and '24' in out


@pytest.mark.parametrize('arguments, words', [
    (['extract', 'a.cdrawa', 'new', '--workdir=other'], ['another model']),
    (['extract', 'a.cdrawa', 'images', '--workdir=run'], ['0.png', 'overwritten']),
    (['extract', 'cut.cdrawa', 'new', '--workdir=run'], ['cut.cdrawa']),
    (['extract', 'nothing', 'new', '--workdir=run'], ['nothing']),
    (['archive', 'mixed', 'new', '--workdir=run'], ['2.png', 'RGB']),
    (['archive', 'nothing', 'new', '--workdir=run'], ['nothing', 'no folder']),
    (['archive', 'images', 'new'], ['--workdir']),
    (['archive', 'images', 'new', '--workdir=nothing'], ['train first']),
    (['encode', 'images/1.png', 'new', '--workdir=run'], ['gaussian', 'uniform']),
    (['archive', 'images', 'new', '--workdir=bins'], ['uniform', 'gaussian']),
    (['encode', 'alpha.png', 'new', '--workdir=bins'], ['alpha.png', 'alpha']),
    (['encode', 'deep.png', 'new', '--workdir=bins'], ['deep.png', '8 bits']),
    (['encode', 'images/1.png', 'new', '--workdir=bins', '--lossless', '--bits-per-dim=1'],
     ['--bits-per-dim']),
    (['decode', 'a.cdrawa', 'new.png', '--workdir=bins'], ['a.cdrawa']),
    (['squeeze', 'images'], ['archive FOLDER FILE'])])
def test_mistakes_end_in_one_line_and_status_two(setting, arguments, words):
  directory, _ = setting
  (directory / 'cut.cdrawa').write_bytes((directory / 'a.cdrawa').read_bytes()[:-9])
  Image.new('RGBA', (8, 8)).save(directory / 'alpha.png')
  Image.new('I;16', (8, 8)).save(directory / 'deep.png')
  (directory / 'mixed').mkdir(exist_ok=True)
  Image.new('RGB', (24, 20)).save(directory / 'mixed' / '1.png')
  Image.new('RGB', (20, 24)).save(directory / 'mixed' / '2.png')
  places = lambda a: a.replace('--workdir=', f'--workdir={directory}/') if '--' in a else (
      directory / a)
  status, out, error = codec(arguments[0], *map(places, arguments[1:]))
  assert status == 2 and out == '' and len(error.strip().splitlines()) == 1, error
  for word in words:
    assert word in error
  assert not (directory / 'new').exists()

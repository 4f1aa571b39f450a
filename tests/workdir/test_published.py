"""The packaged models, and the publication of a run."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from sklearn import datasets

import conv_draw
from conv_draw.codec.coder import Coder
from conv_draw.codec.study import classical
from conv_draw.errors import UserError
from conv_draw.quality import psnr_db
from conv_draw.training import trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics, published, sweeps
from tests.program import ROOT, TINY, launch

NAMES = sorted(
    name for name in os.listdir(published.path('')) if published.is_one(published.path(name)))


def test_each_model_has_a_line():
  lines = list(published.listing())
  assert [line.split()[0] for line in lines] == NAMES == published.names() and len(NAMES) > 10
  assert all('MB' in line and ('nats' in line or 'bits/dim' in line) for line in lines)
  coded = {line.split()[0]: line for line in lines}
  assert 'lossless files' in coded['photos_lossless'] and 'lossy files' in coded['photos_lossy']
  assert 'archives' in coded['cifar10'] and '102.06 nats' in coded['omniglot']


def test_a_model_is_loaded_by_its_name_or_its_path():
  run = conv_draw.load('cifar10_codec')
  assert run.workdir == published.path('cifar10_codec') and run.model.iterations == 4
  again = conv_draw.load(published.path('cifar10_codec'))
  np.testing.assert_array_equal(
      run.params['params']['prior'], again.params['params']['prior'])
  with pytest.raises(UserError, match='there are cifar10, '):
    published.named('photos_small')
  with pytest.raises(UserError, match='photos_small'):
    conv_draw.load('photos_small')


@pytest.mark.parametrize('name', NAMES)
def test_a_model_is_small_and_its_card_has_its_result(name):
  workdir = published.path(name)
  assert os.path.getsize(f'{workdir}/{published.FILE}') < 8e6
  loaded = trained.load(config_lib.load(workdir), workdir)
  entries = metrics.read(workdir)
  size = sum(x.size for x in loaded.params['params'].values() for x in _leaves(x))
  assert loaded.step == max(e['step'] for e in entries)
  if not name.endswith('_lossy'):  # those had an unused encoder when they were trained
    assert entries[0]['parameters'] == size
  with open(f'{workdir}/README.md') as f:
    assert f'{size:,} parameters' in f.read().replace('\n', ' ')
  test = [e for e in entries if e.get('split') == 'test'][-1]
  figure = f'{test["nats"]:.2f}' if name.startswith('omniglot') else f'{test["bits_per_dim"]:.3f}'
  # The results of the codec's models are sizes of files.
  of_codec = name.endswith(('codec', 'lossless', 'lossy'))
  cards = [f'{workdir}/README.md', *([] if of_codec else [f'{ROOT}/docs/results.md'])]
  for path in cards:
    with open(path) as f:
      assert figure in f.read(), path
  assert test['images'] == test['of'], 'measured on a part of the test split'


SCORED = [
    os.path.relpath(directory, published.path(''))
    for directory, _, _ in sorted(os.walk(published.path(''))) if published.is_one(directory)]


@pytest.mark.parametrize('name', SCORED)
def test_the_commands_of_a_card_give_its_result(name):
  """By the stored settings and those of the commands; nothing is evaluated here."""
  workdir = published.path(name)
  card = f'{workdir}/README.md'
  if not os.path.exists(card):  # a card of several models
    card = f'{os.path.dirname(workdir)}/README.md'
  with open(card) as f:
    (again,) = [line for line in f if line.startswith('| again')]
  test = [e for e in metrics.read(workdir) if e.get('split') == 'test'][-1]
  evaluate = dict(config_lib.load(workdir).evaluate)
  commands = [shlex.split(command) for command in re.findall('`(python [^`]*)`', again)]
  assert commands
  for command in commands:
    given = dict(word[2:].split('=', 1) for word in command if word.startswith('--'))
    assert 'workdir' not in given or published.is_one(os.path.join(ROOT, given['workdir']))
    evaluate |= {key.removeprefix('config.evaluate.'): int(value)
                 for key, value in given.items() if key.startswith('config.evaluate.')}
  assert evaluate['max_images'] == 0 and test['images'] == test['of']
  assert evaluate['importance_samples'] == test['importance_samples']
  assert evaluate['seed'] == test.get('seed', 0)  # old logs have none: it was 0


def test_figure_5_is_of_the_models_beside_it_on_all_images():
  with open(f'{ROOT}/docs/omniglot_figure_5.csv', newline='') as f:
    rows = list(csv.DictReader(f))
  assert [float(row['beta']) for row in rows] == list(sweeps.BETAS)
  for row in rows:
    workdir = f'{ROOT}/conv_draw/pretrained/omniglot_beta/beta_{row["beta"]}'
    workdir = published.path('omniglot') if row['beta'] == '1' else workdir
    config = config_lib.load(workdir)
    assert config.objective.beta == float(row['beta'])
    trained.load(config, workdir)
    test = [e for e in metrics.read(workdir) if e.get('split') == 'test'][-1]
    assert int(row['test_images']) == test['images'] == 8115
    assert float(row['test_nats']) == pytest.approx(test['nats'], rel=1e-5)


def test_docs_have_the_sizes_that_the_studies_found():
  for name in ('photos_lossless', 'cifar10_lossless'):
    with open(f'{ROOT}/docs/codec.md') as f:
      text = f.read()
    with open(f'{ROOT}/docs/{name}_study.csv', newline='') as f:
      for row in csv.DictReader(f):
        assert f'{float(row["bits_per_dim"]):.3f}' in text, (name, row)


def _leaves(tree):
  return [leaf for x in tree.values() for leaf in _leaves(x)] if isinstance(tree, dict) else [tree]


def test_lossy_model_codes_a_photograph_at_any_rate():
  image = datasets.load_sample_image('flower.jpg')[100:228, 200:360]
  coder = Coder.load(published.path('photos_lossy'))
  found = []
  for rate in (0.1, 0.4):
    coded = coder.encode(image, bits_per_dim=rate)
    assert 0.85 * rate < 8 * len(coded.data) / image.size <= rate
    np.testing.assert_array_equal(coder.decode(coded.data)[0], coded.decoded)
    found.append(psnr_db(image, coded.decoded))
  jpeg = [psnr_db(image, decoded) for size, decoded in (
      classical.encode(image, setting) for setting in classical.lossy()
      if setting.codec == 'JPEG') if 8 * size / image.size <= 0.4]
  assert found[0] > 22.5 and found[1] > max(jpeg) + 1, (found, max(jpeg))


@pytest.fixture(scope='module')
def made(run, tmp_path_factory):
  out = str(tmp_path_factory.mktemp('published') / 'model')
  done = subprocess.run(
      [sys.executable, '-m', 'conv_draw.pretrained', f'--workdir={run[0]}', f'--out={out}'],
      cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return out


def test_a_published_run_evaluates_as_the_run_and_is_not_changed_by_it(run, made):
  before = metrics.read(made)
  most = config_lib.load(run[0]).evaluate.max_images
  assert most and not config_lib.load(made).evaluate.max_images  # it evaluates all images
  status, out, error = launch(
      '--mode=evaluate', f'--workdir={made}', f'--config.evaluate.max_images={most}')
  assert status == 0, error
  result = [line for line in out.splitlines() if 'Conv DRAW' in line]
  assert result and result == [line for line in run[1].splitlines() if 'Conv DRAW' in line]
  assert metrics.read(made) == before
  assert sorted(os.listdir(made)) == [
      'config.json', 'images.json', 'metrics.jsonl', 'weights.npz']


@pytest.fixture
def bare(tmp_path, config):
  """The files of a run that `published.write` reads."""
  workdir = str(tmp_path / 'bare')
  config_lib.store(config, workdir)
  (tmp_path / 'bare' / 'images.json').write_text('{}')
  lines = metrics.Metrics(workdir)
  lines.event(0, 'start')
  lines.close()
  return workdir


@pytest.mark.parametrize('name', ['model', 'model/', 'new/also_new/model'])
def test_files_beside_it_stay(bare, tmp_path, name):
  mine = tmp_path / 'model.tmp'
  mine.mkdir()
  (mine / 'thesis.txt').write_text('mine')
  before = set(os.listdir(tmp_path))
  out = f'{tmp_path}/{name}'
  published.write(bare, [f'{bare}/metrics.jsonl'], {'w': np.ones(3)}, 5, out)
  assert (mine / 'thesis.txt').read_text() == 'mine'
  assert set(os.listdir(tmp_path)) == before | {name.split('/')[0]}
  assert len(os.listdir(out)) == 4


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError, UserError])
def test_an_interrupt_leaves_nothing_behind(bare, tmp_path, monkeypatch, error):
  before = set(os.listdir(tmp_path))

  def die(path):
    raise error('stopped')

  monkeypatch.setattr(metrics, 'read_file', die)  # when most files have been written
  with pytest.raises(error):
    published.write(bare, [f'{bare}/metrics.jsonl'], {'w': np.ones(3)}, 5, f'{tmp_path}/a/model')
  assert set(os.listdir(tmp_path)) == before


def test_nothing_is_replaced(bare, tmp_path):
  (tmp_path / 'link').symlink_to('nowhere')
  for out in (bare, f'{tmp_path}/link', f'{tmp_path}/'):
    with pytest.raises(UserError, match='exists'):
      published.write(bare, [f'{bare}/metrics.jsonl'], {'w': np.ones(3)}, 5, out)


def test_a_published_model_is_not_trained_but_starts_other_runs(made, tmp_path):
  status, _, error = launch(*TINY, f'--workdir={made}')
  assert status == 2 and 'train.start_from' in error and len(error.splitlines()) == 1
  workdir = str(tmp_path / 'next')
  status, _, error = launch(
      *TINY, f'--workdir={workdir}', f'--config.train.start_from={made}',
      '--config.train.steps=1', '--config.evaluate.max_images=1')
  assert status == 0, error
  # Published again, it has the logs of both runs.
  loaded = trained.load(config_lib.load(workdir), workdir)
  out = str(tmp_path / 'out')
  published.write(workdir, trained.logs(workdir), loaded.params, loaded.step, out)
  logs = [metrics.read_file(log) for log in trained.logs(out)]
  assert logs == [metrics.read(made), metrics.read(workdir)]


def test_damaged_and_other_models_are_refused(made, tmp_path):
  config = config_lib.load(made)
  config.unlock().model.features = 5
  with pytest.raises(UserError, match='other shapes'):
    trained.load(config, made)
  damaged = shutil.copytree(made, tmp_path / 'damaged')
  os.truncate(damaged / published.FILE, 1000)
  with pytest.raises(UserError, match='is damaged'):
    trained.load(config_lib.load(damaged), str(damaged))


def test_a_loaded_model_works_in_jit_vmap_and_grad():
  """Its parameters are NumPy arrays."""
  run = conv_draw.load('photos_lossy')
  images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
  keys = jax.random.split(jax.random.key(0), 2)

  def nats(params, key, image):
    image, key = image[None], key[None]
    return conv_draw.elbo(run.model, image, run.model.apply(params, key, image)).nats[0]

  each = jax.jit(jax.vmap(nats, (None, 0, 0)))(run.params, keys, images)
  at_once = run.model.apply(run.params, keys, images)
  np.testing.assert_allclose(each, conv_draw.elbo(run.model, images, at_once).nats, rtol=1e-4)
  gradients = jax.jit(jax.grad(nats))(run.params, keys[0], images[0])
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))

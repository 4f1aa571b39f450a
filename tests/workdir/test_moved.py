"""Settings of earlier versions are read from old files, and refused in commands."""

import glob
import json
import os

import pytest

from conv_draw.errors import UserError
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import moved, settings, sweeps
from experiments import cifar10_lossy, digits
from tests.program import ROOT
from tests.workdir.test_config import flat

STORED = sorted([
    *glob.glob(os.path.join(ROOT, 'conv_draw', 'pretrained', '**', 'config.json'), recursive=True),
    *glob.glob(os.path.join(ROOT, 'tests', 'golden', 'configs', '*.json'))])
KEYS = {s.key for s in settings.SETTINGS}


def read(path):
  with open(path) as f:
    return json.load(f)


def written(stored, tmp_path):
  """The workdir with such a config.json."""
  (tmp_path / 'config.json').write_text(json.dumps(stored))
  return str(tmp_path)


@pytest.fixture
def old_progressive():
  return read(os.path.join(ROOT, 'conv_draw', 'pretrained', 'photos_lossy', 'config.json'))


def test_the_table_leads_from_old_keys_to_new_ones():
  assert not KEYS & moved.MOVED.keys() and set(moved.GONE) < moved.MOVED.keys()
  assert set(moved.MOVED.values()) <= KEYS | {''}


def known_values(stored, config):
  """Yields (value in the file, value in the config) of the settings that have moved."""
  for key, new in moved.MOVED.items():
    section, name = key.split('.')
    new_section, _, new_name = new.partition('.')
    if name in stored[section] and new_section in settings.KINDS and new_section in config:
      yield stored[section][name], config[new_section][new_name]


@pytest.mark.parametrize('path', STORED, ids=lambda path: os.path.relpath(path, ROOT))
def test_a_stored_configuration_keeps_its_values(path, tmp_path):
  stored = read(path)
  workdir = written(stored, tmp_path)
  config = config_lib.load(workdir)
  now = flat(config)
  assert now.keys() == {s.key for s in settings.of(config.model.kind)}
  model = stored['model']
  kind = ('local' if model['likelihood'] == 'local' else
          'progressive' if model.get('linear_paths') else model['kind'])
  assert config.model.kind == kind
  values = list(known_values(stored, config))
  assert all(old == new for old, new in values) and (len(values) > 2 or kind not in settings.KINDS)
  if kind == 'local':
    assert config.model.likelihood == model['local_canvas']
    assert config.local.mixtures == config.model.mixtures == model['mixtures']
  for key, value in flat(stored).items():
    if key in now and key not in ('model.kind', 'model.likelihood', 'train.part'):
      assert now[key] == (tuple(value) if isinstance(value, list) else value), key
  # A run of the earlier version can be continued.
  config_lib.check_continues(config, workdir)
  before = config.copy_and_resolve_references()
  config_lib.store(config, workdir)
  assert config_lib.load(workdir) == before


def test_a_run_of_an_earlier_version_keeps_its_settings(old_progressive, tmp_path):
  old_progressive['train']['part'] = 'restoration'
  workdir = written(old_progressive, tmp_path)
  config = config_lib.load(workdir)
  assert config.train.part == 'post_filter'
  config.figures.samples = 9
  config_lib.check_continues(config, workdir)
  config.progressive.lmbda += 1
  with pytest.raises(UserError, match='progressive.lmbda was'):
    config_lib.check_continues(config, workdir)


@pytest.mark.parametrize('changed, word', [
    (dict(linear_paths=False), 'price'),
    (dict(likelihood='gaussian'), 'linear_paths'),
    (dict(linear_paths=False, likelihood='gaussian', price=0.0), 'image_kernel'),
    (dict(linear_paths=False, likelihood='gaussian', image_kernel=0), 'price'),
    (dict(likelihood='local'), 'linear_paths'),
    (dict(likelihood='local', kind='vae'), 'VAE'),
    (dict(posterior='uniform'), 'rounded')])
def test_models_that_are_gone_are_named(old_progressive, changed, word, tmp_path):
  old_progressive['model'].update(changed)
  workdir = written(old_progressive, tmp_path)
  with pytest.raises(UserError, match=word) as e:
    config_lib.load(workdir)
  assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize('key', moved.MOVED)
def test_a_moved_key_is_refused_and_its_new_place_named(monkeypatch, key):
  config, new = digits.get_config(), moved.MOVED[key]
  place = {'': 'gone', 'model.kind': 'model.kind=progressive'}.get(new, f'config.{new}')
  section, name = key.split('.')
  monkeypatch.setattr(sweeps, 'points', lambda config_file: [{key: 1}])
  for touch in (
      lambda: setattr(config[section], name, 1), lambda: getattr(config[section], name),
      lambda: config[section].update({name: 1}),
      lambda: sweeps.choose('experiments/mine.py', 'runs/mine', 0, config)):
    with pytest.raises(UserError, match=f'config.{key} is.*{place}'):
      touch()


def test_sections_and_values_are_refused_and_their_kind_named(config):
  with pytest.raises(UserError, match='config.local is a section .* model.kind=local'):
    config.local.horizon = 3
  config.model.likelihood = 'local'
  with pytest.raises(UserError, match="'local'; it is model.kind=local now"):
    config_lib.check(config)


def test_unknown_keys_and_sections_are_ignored(tmp_path):
  config = cifar10_lossy.get_config()
  stored = json.loads(config.to_json())
  stored['model']['new'] = stored['new'] = 1
  stored['also_new'] = {'key': 2}
  assert config_lib.load(written(stored, tmp_path)).progressive == config.progressive

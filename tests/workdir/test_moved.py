"""Settings of earlier versions are found in old files, and refused in new commands."""

import glob
import json
import os

import pytest

from conv_draw.errors import UserError
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import moved, settings, sweeps
from experiments import cifar10_lossy, digits
from tests.program import ROOT

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
def old_local():
  return read(os.path.join(ROOT, 'conv_draw', 'pretrained', 'omniglot_local_draw', 'config.json'))


@pytest.fixture
def old_progressive():
  return read(os.path.join(ROOT, 'conv_draw', 'pretrained', 'photos_lossy', 'config.json'))


def test_the_table_leads_from_old_keys_to_new_ones():
  assert not KEYS & moved.MOVED.keys() and set(moved.GONE) < moved.MOVED.keys()
  assert set(moved.MOVED.values()) <= KEYS | {''}


def known_values(stored, config):
  """Of settings by their old name: (what the file has, what the config has in their place)."""
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
  flat = config_lib._flat(config.to_dict())
  assert flat.keys() == {s.key for s in settings.of(config.model.kind)}
  model = stored['model']
  kind = ('local' if model['likelihood'] == 'local' else
          'progressive' if model.get('linear_paths') else model['kind'])
  assert config.model.kind == kind
  values = list(known_values(stored, config))
  assert all(old == new for old, new in values) and (len(values) > 2 or kind not in settings.KINDS)
  if kind == 'local':
    assert config.model.likelihood == model['local_canvas']
    assert config.local.mixtures == config.model.mixtures == model['mixtures']
  for key, value in config_lib._flat(stored).items():
    if key in flat and key not in ('model.kind', 'model.likelihood', 'train.part'):
      assert flat[key] == (tuple(value) if isinstance(value, list) else value), key
  # A run goes on that the earlier version began.
  config_lib.check_continues(config, workdir)
  before = config.copy_and_resolve_references()
  config_lib.store(config, workdir)
  assert config_lib.load(workdir) == before


def test_a_run_of_an_earlier_version_does_not_go_on_with_other_values(old_local, tmp_path):
  workdir = written(old_local, tmp_path)
  config = config_lib.load(workdir)
  config.local.figures = 'canvas'
  config_lib.check_continues(config, workdir)
  config.local.horizon = 2
  with pytest.raises(UserError, match='local.horizon was 8, is 2'):
    config_lib.check_continues(config, workdir)


def test_the_part_of_training_has_a_new_name(old_progressive, tmp_path):
  old_progressive['train']['part'] = 'restoration'
  assert config_lib.load(written(old_progressive, tmp_path)).train.part == 'post_filter'


@pytest.mark.parametrize('changed, word', [
    (dict(linear_paths=False), 'squared_error'),
    (dict(likelihood='gaussian'), 'linear_paths'),
    (dict(linear_paths=False, likelihood='gaussian', price=0.0), 'image_kernel'),
    (dict(linear_paths=False, likelihood='gaussian', image_kernel=0), 'price'),
    (dict(likelihood='local'), 'linear_paths'),
    (dict(likelihood='local', kind='vae'), 'VAE'),
    (dict(posterior='uniform'), 'rounded')])
def test_models_that_are_no_more_are_named(old_progressive, changed, word, tmp_path):
  old_progressive['model'].update(changed)
  workdir = written(old_progressive, tmp_path)
  with pytest.raises(UserError, match=word) as e:
    config_lib.load(workdir)
  assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize('key', moved.MOVED)
def test_a_moved_key_is_refused_with_its_new_place(monkeypatch, key):
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


def test_sections_and_values_are_refused_with_their_kind(config):
  with pytest.raises(UserError, match='config.local is a section .* model.kind=local'):
    config.local.horizon = 3
  config.model.likelihood = 'local'
  with pytest.raises(UserError, match="'local'; it is model.kind=local now"):
    config_lib.check(config)


def test_keys_and_sections_that_nobody_knows_are_left_alone(tmp_path):
  config = cifar10_lossy.get_config()
  stored = json.loads(config.to_json())
  stored['model']['of_later'] = stored['of_later'] = 1
  stored['also_of_later'] = {'key': 2}
  assert config_lib.load(written(stored, tmp_path)).progressive == config.progressive


def test_a_section_that_is_missing_or_too_many_is_named(tmp_path):
  stored = json.loads(cifar10_lossy.get_config().to_json())
  section = stored.pop('progressive')
  with pytest.raises(UserError, match='needs a section config.progressive'):
    config_lib.load(written(stored, tmp_path))
  stored = json.loads(digits.get_config().to_json()) | {'progressive': section}
  with pytest.raises(UserError, match='does not go with a section config.progressive'):
    config_lib.load(written(stored, tmp_path))

import os

import pytest

from conv_draw.errors import UserError
from conv_draw.progressive import transform
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import settings
from experiments import default


def flat(config):
  """{dotted key: value}."""
  return {f'{name}.{key}': value for name, section in config.items()
          for key, value in section.items()}


def test_a_stored_config_comes_back_with_its_types(config, tmp_path):
  config.train.clip_norm = 1.0
  config.model.update(upper_features=(4,), upper_latents=(2,), upper_strides=(0,))
  config_lib.store(config, tmp_path)
  stored = config_lib.load(tmp_path)
  assert stored == config and isinstance(stored.train.clip_norm, float)
  assert stored.model.upper_features == (4,)
  config_lib.check_continues(config, tmp_path)
  assert os.listdir(tmp_path) == ['config.json']


@pytest.mark.parametrize('kind, changed, word', [
    # One setting: each rule.
    ('draw', {'model.likelihood': 'poisson'}, 'likelihood'), ('draw', {'model.kernel': 4}, 'odd'),
    ('draw', {'model.kernel': -3}, 'odd'), ('draw', {'train.batch_size': 0}, 'batch_size'),
    ('draw', {'train.learning_rate': -1.0}, 'learning_rate'),
    ('draw', {'train.seed': 2**32}, 'train.seed'),
    ('draw', {'train.learning_rate': float('nan')}, 'number'),
    ('draw', {'train.ema_decay': 1.0}, 'ema_decay'),
    ('progressive', {'progressive.first_beta': 0.0}, 'first_beta'),
    # Further layers.
    ('draw', {'model.upper_features': (4,)}, 'one for each'),
    ('draw', {'model.upper_features': (4,), 'model.upper_latents': (0,),
              'model.upper_strides': (2,)}, 'upper_latents'),
    ('draw', {'model.upper_features': ('a',), 'model.upper_latents': (2,),
              'model.upper_strides': (2,)}, 'upper_features'),
    ('draw', {'model.upper_features': (4, 4), 'model.upper_latents': (2, 2),
              'model.upper_strides': (0, 2)}, 'fully connected'),
    # Several settings.
    ('draw', {'data.name': 'omniglot'}, 'omniglot'),
    ('draw', {'data.name': 'omniglot', 'model.likelihood': 'bernoulli', 'data.contrast': 3.0},
     'data.contrast'),
    ('draw', {'model.steps': 0}, 'model.steps'),
    ('draw', {'train.part': 'head'}, 'train.part'),
    ('draw', {'model.posterior': 'constant', 'model.bin_width': 1.0}, 'model.bin_width'),
    ('draw', {'model.gain': 3.0}, 'model.gain'),
    ('draw', {'objective.kl_warmup_steps': 9, 'objective.bound': 'iwae'}, 'kl_warmup_steps'),
    ('vae', {'train.optimizer': 'muon'}, 'train.optimizer.*adam'),
    ('local', {'model.steps': 0, 'local.auxiliary': 0.1}, 'local.auxiliary'),
    ('local', {'model.steps': 0, 'train.part': 'draw'}, 'train.part'),
    ('local', {'model.likelihood': 'squared_error'}, 'model.likelihood'),
    ('local', {'local.numbers': 'ranged', 'local.position': True}, 'local.numbers'),
    ('local', {'local.numbers': 'whole', 'local.pixels': 0}, 'local.numbers'),
    ('local', {'local.numbers': 'whole', 'data.name': 'omniglot',
               'model.likelihood': 'bernoulli'}, 'local.numbers'),
    ('progressive', {'model.posterior': 'uniform'}, 'model.posterior.*rounded'),
    ('progressive', {'model.stride': 0}, 'model.stride'),
    ('progressive', {'model.steps': 3}, 'model.steps.*at least 4'),
    ('progressive', {'model.stride': 4, 'progressive.image_kernel': 8}, 'image_kernel.*stride=4'),
    ('progressive', {'train.part': 'post_filter'}, 'train.part')])
def test_invalid_settings_are_named(config, kind, changed, word):
  config_lib.set_kind(config, kind)
  if kind == 'progressive':
    config.model.update(posterior='rounded', steps=6)
  config_lib.check(config)
  config.update_from_flattened_dict(changed)
  with pytest.raises(UserError, match=word):
    config_lib.check(config)


def test_subsets_that_a_kind_has_can_be_trained(config):
  assert config_lib.PROGRESSIVE_STEPS == transform.INTERLACED + 1
  config_lib.set_kind(config, 'local')
  config.train.part = 'head'
  config_lib.check(config)
  config_lib.set_kind(config, 'progressive')
  config.model.update(posterior='rounded', steps=4)
  config.progressive.post_filter = 8
  config.train.part = 'post_filter'
  config_lib.check(config)


def test_a_run_keeps_the_settings_that_its_results_depend_on(config, tmp_path):
  config_lib.check_continues(config, tmp_path)  # nothing is stored yet
  assert config_lib.changes(config, tmp_path) == {}
  config_lib.store(config, tmp_path)
  assert config_lib.changes(config, tmp_path) == {}
  config.train.update(steps=100, learning_rate=0.5)
  config.data.data_dir = 'elsewhere'
  config_lib.check_continues(config, tmp_path)
  assert config_lib.changes(config, tmp_path) == {
      'data.data_dir': ['', 'elsewhere'], 'train.learning_rate': [2e-3, 0.5],
      'train.steps': [12, 100]}
  config.objective.beta = 0.5
  with pytest.raises(UserError, match='objective.beta was 1.0, is 0.5'):
    config_lib.check_continues(config, tmp_path)


def test_settings_of_another_version_are_treated_as_the_others_of_their_section(config, tmp_path):
  older = config.copy_and_resolve_references().unlock()
  older.evaluate.old = 3
  config_lib.store(older, tmp_path)
  config_lib.check_continues(config, tmp_path)
  older.model.old = 3
  config_lib.store(older, tmp_path)
  with pytest.raises(UserError, match='model.old was 3, is None'):
    config_lib.check_continues(config, tmp_path)


def test_stored_settings_that_are_missing_behave_as_their_defaults(config, tmp_path):
  older = config.copy_and_resolve_references().unlock()
  del older.model.remat
  config_lib.store(older, tmp_path)
  assert config_lib.load(tmp_path).to_dict() == config.to_dict()
  config_lib.check_continues(config, tmp_path)


def test_every_setting_is_required(config):
  for key in flat(config):
    other = config.copy_and_resolve_references().unlock()
    section, name = key.split('.')
    del other[section][name]
    with pytest.raises(UserError, match=f'{key}:.*another version'):
      config_lib.check(other)
  config.unlock()['model'] = config.model.to_dict() | {'steps': 'x'}
  with pytest.raises(UserError, match='model.steps.*number'):
    config_lib.check(config)


def test_settings_are_a_table():
  rules = (settings.AT_LEAST_1, settings.NOT_NEGATIVE, settings.POSITIVE, settings.FRACTION,
           settings.ODD, settings.ANY)
  keys = [s.key for s in settings.SETTINGS]
  assert len(set(keys)) == len(keys)
  config = default.get_config()
  for kind in ('draw', 'vae', *settings.KINDS):
    config_lib.set_kind(config, kind)
    assert sorted(s.key for s in settings.of(kind)) == sorted(flat(config))
  for setting in settings.SETTINGS:
    assert setting.meaning and '\n' not in setting.meaning, setting
    assert setting.may_change in (settings.STAYS, settings.CHANGES, settings.SHOWN), setting
    if setting.rule not in rules:
      assert isinstance(setting.rule, tuple) and setting.default in setting.rule, setting
  config_lib.check(default.get_config())


@pytest.mark.parametrize('text, word', [
    ('[]', 'another version'), ('3', 'not readable'), ('{"data": ', 'not readable')])
def test_unreadable_files_are_named(tmp_path, text, word):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(UserError, match=word):
    config_lib.load(tmp_path)


def test_a_kind_and_its_section_come_together(config):
  before = config.copy_and_resolve_references()
  with pytest.raises(UserError, match='kind=local needs a section config.local'):
    config.model.kind = 'local'
    config_lib.check(config)
  config_lib.set_kind(config, 'progressive')
  assert 'progressive' in config and config.is_locked
  config_lib.set_kind(config, 'local')
  assert 'local' in config and 'progressive' not in config
  config_lib.check(config)
  config.model.kind = 'vae'
  with pytest.raises(UserError, match='kind=vae does not go with a section config.local'):
    config_lib.check(config)
  config_lib.set_kind(config, 'draw')
  assert config == before

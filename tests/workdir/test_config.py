import os

import pytest

from conv_draw.errors import UserError
from conv_draw.progressive import transform
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import settings
from experiments import default


def test_stored_config_comes_back_with_its_types(config, tmp_path):
  config.train.clip_norm = 1.0
  config_lib.store(config, tmp_path)
  stored = config_lib.load(tmp_path)
  assert stored == config and isinstance(stored.train.clip_norm, float)
  assert os.listdir(tmp_path) == ['config.json']


@pytest.mark.parametrize('key, value', [
    ('model.likelihood', 'poisson'), ('model.kernel', 4), ('model.steps', 0),
    ('model.compute_dtype', 'int8'), ('train.batch_size', 0), ('train.schedule', 'linear'),
    ('data.name', 'omniglot'),
    ('train.learning_rate', -1.0), ('train.learning_rate', float('nan')), ('train.seed', -1),
    ('train.ema_decay', 1.0), ('evaluate.importance_samples', 0), ('data.hold_out', 1.5),
    ('data.workers', -1), ('model.kernel', -3)])
def test_values_without_sense_are_named(config, key, value):
  config_lib.check(config)
  section, name = key.split('.')
  config[section][name] = value
  with pytest.raises(UserError, match=key):
    config_lib.check(config)


def test_setting_of_another_version_is_named(config):
  del config.unlock().model.kind
  with pytest.raises(UserError, match='model.kind.*another version'):
    config_lib.check(config)


@pytest.mark.parametrize('upper, words', [
    (dict(upper_features=(4,)), 'one for each'),
    (dict(upper_features=(4,), upper_latents=(0,), upper_strides=(2,)), 'upper_latents'),
    (dict(upper_features=('a',), upper_latents=(2,), upper_strides=(2,)), 'upper_features'),
    (dict(upper_features=(4, 4), upper_latents=(2, 2), upper_strides=(0, 2)), 'fully connected')])
def test_upper_layers_must_agree(config, upper, words):
  config.model.update(**upper)
  with pytest.raises(UserError, match=words):
    config_lib.check(config)


def test_stored_tuples_come_back_as_tuples(config, tmp_path):
  config.model.update(upper_features=(4,), upper_latents=(2,), upper_strides=(0,))
  config_lib.store(config, tmp_path)
  config_lib.check_continues(config, tmp_path)
  assert config_lib.load(tmp_path).model.upper_features == (4,)


def test_differences_name_the_keys(config):
  other = config.copy_and_resolve_references()
  other.model.features = 99
  other.train.seed = 3
  assert config_lib.differences(config, other) == ['model.features', 'train.seed']


def test_only_what_was_computed_must_stay(config, tmp_path):
  config_lib.check_continues(config, tmp_path)  # nothing stored yet
  config_lib.store(config, tmp_path)
  config.train.steps = 100
  config.data.data_dir = 'elsewhere'
  config.evaluate.importance_samples = 5
  config_lib.check_continues(config, tmp_path)
  config.objective.beta = 0.5
  with pytest.raises(UserError, match='objective.beta was 1.0, is 0.5'):
    config_lib.check_continues(config, tmp_path)


def test_changes_have_both_values(config, tmp_path):
  assert config_lib.changes(config, tmp_path) == {}
  config_lib.store(config, tmp_path)
  assert config_lib.changes(config, tmp_path) == {}
  config.train.update(steps=100, learning_rate=0.5)
  assert config_lib.changes(config, tmp_path) == {
      'train.steps': [12, 100], 'train.learning_rate': [2e-3, 0.5]}


def test_damaged_config_is_named(tmp_path):
  (tmp_path / 'config.json').write_text('{"data": ')
  with pytest.raises(UserError, match='config.json'):
    config_lib.load(tmp_path)


def test_every_setting_is_asked_for(config):
  """So that a config of another version ends in one line, whichever setting it lacks."""
  for key in config_lib._flat(config.to_dict()):
    other = config.copy_and_resolve_references().unlock()
    section, name = key.split('.')
    del other[section][name]
    with pytest.raises(UserError, match=f'{key}:.*another version'):
      config_lib.check(other)


def test_settings_are_a_table():
  rules = (settings.AT_LEAST_1, settings.NOT_NEGATIVE, settings.POSITIVE, settings.FRACTION,
           settings.ODD, settings.ANY)
  keys = [s.key for s in settings.SETTINGS]
  assert len(set(keys)) == len(keys)
  config = default.get_config()
  for kind in ('draw', 'vae', *settings.KINDS):
    config_lib.set_kind(config, kind)
    assert sorted(s.key for s in settings.of(kind)) == sorted(config_lib._flat(config.to_dict()))
  for setting in settings.SETTINGS:
    assert setting.meaning and '\n' not in setting.meaning, setting
    assert setting.may_change in (settings.STAYS, settings.CHANGES, settings.SHOWN), setting
    if setting.rule not in rules:
      assert isinstance(setting.rule, tuple) and setting.default in setting.rule, setting
  config_lib.check(default.get_config())


def test_settings_of_another_version_are_taken_for_the_others_of_their_section(config, tmp_path):
  older = config.copy_and_resolve_references().unlock()
  older.evaluate.of_old = 3
  config_lib.store(older, tmp_path)
  config_lib.check_continues(config, tmp_path)
  older.model.of_old = 3
  config_lib.store(older, tmp_path)
  with pytest.raises(UserError, match='model.of_old was 3, is None'):
    config_lib.check_continues(config, tmp_path)


@pytest.mark.parametrize('text, word', [
    ('[]', 'another version'), ('3', 'not readable'), ('{', 'not readable')])
def test_what_is_no_config_is_named(tmp_path, text, word):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(UserError, match=word):
    config_lib.load(tmp_path)


@pytest.mark.parametrize('name', ['steps', 'stride', 'kernel'])
def test_text_in_place_of_a_number_is_named(config, name):
  config.unlock()['model'] = config.model.to_dict() | {name: 'x'}
  with pytest.raises(UserError, match=f'model.{name}.*number'):
    config_lib.check(config)


def test_what_was_no_setting_yet_is_as_its_default_is(config, tmp_path):
  older = config.copy_and_resolve_references().unlock()
  del older.model.remat
  config_lib.store(older, tmp_path)
  assert config_lib.load(tmp_path).to_dict() == config.to_dict()
  config_lib.check_continues(config, tmp_path)


@pytest.mark.parametrize('kind, changed, word', [
    ('draw', {'model.steps': 0}, 'model.steps'),
    ('draw', {'train.part': 'head'}, 'train.part'),
    ('draw', {'train.part': 'post_filter'}, 'train.part'),
    ('draw', {'model.posterior': 'constant', 'model.bin_width': 1.0}, 'model.bin_width'),
    ('draw', {'model.gain': 3.0}, 'model.gain'),
    ('draw', {'objective.kl_warmup_steps': 9, 'objective.bound': 'iwae'}, 'kl_warmup_steps'),
    ('vae', {'train.optimizer': 'muon'}, 'train.optimizer.*adam'),
    ('vae', {'model.posterior': 'rounded'}, 'model.posterior.*gaussian'),
    ('local', {'model.steps': 0, 'local.auxiliary': 0.1}, 'local.auxiliary'),
    ('local', {'model.steps': 0, 'train.part': 'draw'}, 'train.part'),
    ('local', {'local.numbers': 'ranged', 'local.position': True}, 'local.numbers'),
    ('local', {'local.numbers': 'whole', 'local.pixels': 0}, 'local.numbers'),
    ('local', {'local.numbers': 'whole', 'data.name': 'omniglot',
               'model.likelihood': 'bernoulli'}, 'local.numbers'),
    ('local', {'model.likelihood': 'bernoulli'}, 'omniglot'),
    ('progressive', {'model.posterior': 'uniform'}, 'model.posterior.*rounded'),
    ('progressive', {'model.likelihood': 'logistic_mixture'}, 'model.likelihood'),
    ('progressive', {'model.gain': 3.0}, 'model.gain'),
    ('progressive', {'model.stride': 0}, 'model.stride'),
    ('progressive', {'model.steps': 3}, 'model.steps.*at least 4'),
    ('progressive', {'model.stride': 4, 'progressive.image_kernel': 8}, 'image_kernel.*stride=4'),
    ('progressive', {'progressive.first_beta': 0.0}, 'first_beta'),
    ('progressive', {'objective.samples': 2}, 'objective.samples'),
    ('progressive', {'train.part': 'post_filter'}, 'train.part')])
def test_settings_that_do_not_go_together_are_named(config, kind, changed, word):
  config_lib.set_kind(config, kind)
  if kind == 'progressive':
    config.model.update(posterior='rounded', steps=6)
  config_lib.check(config)
  config.update_from_flattened_dict(changed)
  with pytest.raises(UserError, match=word):
    config_lib.check(config)


def test_parts_that_a_kind_has_are_trained(config):
  assert config_lib.PROGRESSIVE_STEPS == transform.INTERLACED + 1
  config_lib.set_kind(config, 'local')
  config.train.part = 'head'
  config_lib.check(config)
  config_lib.set_kind(config, 'progressive')
  config.model.update(posterior='rounded', steps=4)
  config.progressive.post_filter = 8
  config.train.part = 'post_filter'
  config_lib.check(config)


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
  for kind in ('draw', 'vae'):
    config.model.kind = kind
    with pytest.raises(UserError, match=f'kind={kind} does not go with a section config.local'):
      config_lib.check(config)
  config_lib.set_kind(config, 'draw')
  assert config == before


def test_less_contrast_is_of_grey_values(config):
  config.data.contrast = 3.0
  config_lib.check(config)
  config.data.name, config.model.likelihood = 'omniglot', 'bernoulli'
  with pytest.raises(UserError, match='data.contrast.*binary'):
    config_lib.check(config)


def test_binary_pixels_are_those_of_bernoulli(config):
  assert not config_lib.is_binary(config)
  config.model.likelihood = 'bernoulli'
  assert config_lib.is_binary(config)

import os

import pytest

from conv_draw.errors import UserError
from conv_draw.model import linear_paths
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
  rules = (settings.AT_LEAST_1, settings.NOT_NEGATIVE, settings.FRACTION, settings.ODD,
           settings.ANY)
  keys = [s.key for s in settings.SETTINGS]
  assert sorted(keys) == sorted(config_lib._flat(default.get_config().to_dict()))  # once each
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
  del older.model.local_horizon
  config_lib.store(older, tmp_path)
  assert config_lib.load(tmp_path).to_dict() == config.to_dict()
  config_lib.check_continues(config, tmp_path)


@pytest.mark.parametrize('changed, words', [
    ({'model.steps': 0}, 'of local pixels'),
    ({'objective.auxiliary': 0.1}, 'none'),
    ({'train.part': 'head'}, 'none'),
    ({'train.optimizer': 'muon', 'model.kind': 'vae'}, 'adam'),
    ({'model.local_numbers': 'whole'}, 'likelihood=local'),
    ({'model.likelihood': 'local', 'model.local_numbers': 'ranged', 'model.local_position': True},
     'no local_position'),
    ({'model.likelihood': 'local', 'model.steps': 0, 'model.local_numbers': 'whole',
      'objective.pixels': 0}, 'objective.pixels'),
    ({'model.likelihood': 'local', 'model.local_canvas': 'bernoulli'}, 'omniglot'),
    ({'model.likelihood': 'local', 'model.steps': 0, 'train.part': 'draw'}, 'none')])
def test_settings_of_local_pixels_need_them(config, changed, words):
  config.update_from_flattened_dict(changed)
  with pytest.raises(UserError, match=words):
    config_lib.check(config)


LINEAR = {'model.linear_paths': True, 'model.posterior': 'rounded', 'model.stride': 8,
          'model.image_kernel': 8, 'model.price': 6.0, 'objective.progressive': 1e-3}


def test_settings_of_codecs_go_together(config):
  assert config_lib.LINEAR_STEPS == linear_paths.TURNS + 1
  config.update_from_flattened_dict({**LINEAR, 'model.steps': 6})
  config_lib.check(config)
  config.model.update(restoration=8, likelihood='squared_error')
  config.train.part = 'restoration'
  config_lib.check(config)


@pytest.mark.parametrize('changed, words', [
    ({'model.stride': 4}, 'image_kernel is 8'),
    ({'model.posterior': 'uniform'}, 'model.price'),
    ({'model.posterior': 'gaussian', 'model.price': 0.0}, 'linear_paths goes with'),
    ({'model.posterior': 'constant', 'model.price': 0.0, 'model.bin_width': 1.0}, 'bin_width'),
    ({'model.gain': 3.0}, 'without linear_paths'),
    ({'objective.kl_warmup_steps': 9, 'objective.bound': 'iwae'}, 'bound=elbo'),
    ({'model.steps': 3}, 'steps at least 4'),
    ({'model.likelihood': 'logistic_mixture'}, 'squared_error'),
    ({'model.likelihood': 'local'}, 'progressive'),
    ({'objective.samples': 2}, 'progressive'),
    ({'model.restoration': 8}, 'restoration goes with'),
    ({'train.part': 'restoration'}, 'needs --config.model.restoration')])
def test_what_codecs_do_not_go_with_is_said(config, changed, words):
  config.update_from_flattened_dict({**LINEAR, 'model.steps': 6, **changed})
  with pytest.raises(UserError, match=words):
    config_lib.check(config)


def test_less_contrast_is_of_grey_values(config):
  config.data.contrast = 3.0
  config_lib.check(config)
  config.data.name, config.model.likelihood = 'omniglot', 'bernoulli'
  with pytest.raises(UserError, match='data.contrast is of grey values'):
    config_lib.check(config)


def test_binary_pixels_are_those_of_bernoulli(config):
  assert not config_lib.is_binary(config)
  config.model.likelihood = 'bernoulli'
  assert config_lib.is_binary(config)
  config.model.update(likelihood='local', local_canvas='gaussian')
  assert not config_lib.is_binary(config)
  config.model.local_canvas = 'bernoulli'
  assert config_lib.is_binary(config)

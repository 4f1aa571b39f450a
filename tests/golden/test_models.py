"""Published weights and configurations are what they were."""

import glob
import json
import os
import shutil

import jax
import numpy as np
import pytest

from conv_draw.build import from_config
from conv_draw.codec.coder import Coder
from conv_draw.training import trained
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import published
from tests.golden.record import digest

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, 'models.json')) as f:
  MODELS = json.load(f)
CONFIGS = sorted(glob.glob(os.path.join(HERE, 'configs', '*.json')))
# Arrays of published weights that were without effect, and are stored no longer: {model: names}.
ENCODER = {f"['params']['{name}']" for name in (
    'encoder_image', 'encoder_error', 'encoder_h_e', 'encoder_h_d', 'encoder_bias', 'posterior',
    'posterior_bias')}
LEFT_OUT = {'photos_lossy': ENCODER, 'cifar10_lossy': ENCODER}


def test_models_are_added_and_none_is_removed():
  assert set(MODELS) == set(published.names())


@pytest.mark.parametrize('name', MODELS)
def test_weights_are_those_published(name):
  with np.load(os.path.join(published.path(name), published.FILE)) as stored:
    found = {key: [list(value.shape), digest(value)] for key, value in stored.items()}
  assert found == {key: value for key, value in MODELS[name]['arrays'].items()
                   if key not in LEFT_OUT.get(name, ())}


@pytest.mark.parametrize('name', MODELS)
def test_arrays_in_use_are_those_published(name):
  """Whatever they are called by now."""
  params = trained.named(name).params
  used = sorted(digest(leaf) for leaf in jax.tree.leaves(params))
  assert used == sorted(
      array_digest for key, (_, array_digest) in MODELS[name]['arrays'].items()
      if key != 'step' and key not in LEFT_OUT.get(name, ()))


@pytest.mark.parametrize('name', [name for name in MODELS if MODELS[name]['fingerprint']])
def test_files_carry_the_published_fingerprint(name):
  assert Coder.load(published.path(name)).fingerprint.hex() == MODELS[name]['fingerprint']


@pytest.mark.parametrize('path', CONFIGS, ids=os.path.basename)
def test_configurations_of_every_age_describe_a_model(path, tmp_path):
  """config.json as some version wrote it is read, checked, and gives a model with parameters."""
  shutil.copy(path, tmp_path / 'config.json')
  config = config_lib.load(str(tmp_path))
  shape = (28, 28, 1) if config.data.name == 'omniglot' else (32, 32, 3)
  model = from_config(config, shape, 256)
  key = jax.random.key(0)
  params = jax.eval_shape(model.init, key, key, jax.ShapeDtypeStruct((1, *shape), np.uint8))
  with open(path) as f:
    stored = json.load(f)
  assert config.model.steps == stored['model']['steps']
  assert len(jax.tree.leaves(params)) > 5

import json
import os
import pathlib

import jax
import numpy as np
import pytest

from conv_draw.data import sets
from conv_draw.errors import UserError
from conv_draw.training import loop, trained
from tests.program import restored


@pytest.mark.parametrize('ema_decay, used', [(0.0, 'params'), (0.5, 'ema_params')])
def test_a_loaded_run_is_the_one_that_training_returned(
    config, tmp_path, ema_decay, used):
  config.train.update(steps=4, ema_decay=ema_decay)
  workdir = str(tmp_path / 'run')
  returned = loop.train(config, workdir)
  images = sets.load(config.data, 'test')
  with_data, without = trained.load(config, workdir, images), trained.load(config, workdir)
  expected = restored(workdir, 4)[used]
  for run in (returned, with_data, without):
    assert (run.step, run.workdir, run.model, run.config) == (
        4, workdir, returned.model, config)
    jax.tree.map(np.testing.assert_array_equal, run.params, expected)
    assert (run.images.shape, run.images.grey_levels) == ((8, 8, 1), 17)
  assert with_data.images is images and len(returned.images) == len(images)
  assert without.images == trained.ImageKind('digits (scikit-learn), train', (8, 8, 1), 17)


@pytest.mark.parametrize('name, words', [
    (None, '^name: a NoneType'), (b'omniglot', '^name: a bytes'), ('a\0b', 'config.json'),
    ('omniglott', 'omniglott/config.json does not exist'),
    (pathlib.Path('nowhere'), 'nowhere/config.json')])
def test_unknown_models_are_named_in_one_line(name, words, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=words) as error:
    trained.named(name)
  assert '\n' not in str(error.value)


def test_images_json_is_written_and_checked(config, tmp_path):
  workdir, path = str(tmp_path), tmp_path / 'images.json'
  with pytest.raises(UserError, match='images.json does not exist'):
    trained.load(config, workdir)
  trained.store_images(workdir, sets.load(config.data, 'train'))
  assert os.listdir(workdir) == ['images.json']
  stored = json.loads(path.read_text())
  assert stored == {'name': 'digits (scikit-learn), train', 'shape': [8, 8, 1], 'levels': 17,
                    'size': 1497, 'files': {}}
  assert trained.stored_identity(workdir) == stored
  with pytest.raises(UserError, match='train first'):  # past images.json
    trained.load(config, workdir)
  for damage in (path.read_text()[:20], '[]', json.dumps({'name': stored['name']})):
    path.write_text(damage)
    with pytest.raises(UserError, match='images.json is not readable'):
      trained.load(config, workdir)
    assert trained.stored_identity(workdir) is None  # training rewrites it

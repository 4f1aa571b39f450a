import functools
import json
import math

import jax
import numpy as np
import pytest

from conv_draw.build import from_config
from conv_draw.data import sets
from conv_draw.model import objective
from conv_draw.report import baselines
from conv_draw.training import evaluate, steps, trained
from conv_draw.workdir import metrics as metrics_lib


@pytest.fixture
def run(config):
  """Of an untrained model."""
  images = sets.load(config.data, 'test')
  model = from_config(config, images.shape, images.grey_levels)
  state = steps.create_state(config, model, steps.create_optimizer(config, model), images.shape)
  return trained.of_state(config, '', model, state, images)


def test_every_image_counts_once_whatever_the_batch(config, run):
  config.evaluate.max_images = 21  # no multiple of either batch size
  config.evaluate.batch_size = 16
  one = evaluate.evaluate(run)
  config.evaluate.batch_size = 8
  two = evaluate.evaluate(run)
  key = steps.random_key(config.evaluate.seed, steps.EVALUATE, 0)
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(np.arange(21))
  batch = run.images.fetch(np.arange(21))
  terms = objective.elbo(run.model, batch, jax.jit(run.model.apply)(run.params, keys, batch))
  for result in (one, two):
    assert result.count == 21
    assert result.nats == pytest.approx(float(terms.nats.mean()), rel=1e-5)
    assert result.standard_error_nats == pytest.approx(
        float(np.std(terms.nats, ddof=1)) / np.sqrt(21), rel=1e-3)
    np.testing.assert_allclose(result.kl_nats, terms.kl_nats.mean(-1), rtol=1e-4)
    assert result.nats == pytest.approx(
        result.reconstruction_nats + result.kl_nats.sum(), rel=1e-9)


def test_a_single_image_has_no_standard_error(config, run, tmp_path, caplog):
  config.evaluate.max_images = 1
  metrics = metrics_lib.Metrics(str(tmp_path))
  result = evaluate.evaluate(run)
  evaluate.write(metrics, run, result)
  metrics.close()
  assert not caplog.records  # tensorboardX warns of NaN
  assert result.count == 1 and math.isnan(result.standard_error_nats)

  line = json.loads((tmp_path / 'metrics.jsonl').read_text(), parse_constant=pytest.fail)
  assert line['images'] == 1 and line['standard_error_nats'] is None


def test_more_importance_samples_tighten_the_bound(config, run):
  bounds = []
  for k in (1, 2, 8):
    config.evaluate.importance_samples = k
    result = evaluate.evaluate(run)
    assert k == 1 or result.nats < result.elbo_nats
    bounds.append(result.nats)
  assert bounds[2] < bounds[1] < bounds[0]


def test_evaluation_stops_when_told_to(run):
  done = []
  assert evaluate.evaluate(run, done.append, should_stop=lambda: True) is None
  assert done == [16]  # of 24: one batch
  done.clear()
  assert evaluate.evaluate(run, done.append, should_stop=lambda: len(done) > 5).count == 24


def test_uniform_baseline_is_eight_bits():
  assert objective.bits_per_dim(
      baselines.uniform_nats((32, 32, 3), 256), (32, 32, 3)) == pytest.approx(8)


def test_gaussian_baseline_on_digits_is_the_documented_number(config):
  train, test = sets.load(config.data, 'train'), sets.load(config.data, 'test')
  nats = baselines.multivariate_gaussian_nats(train, test)
  assert objective.bits_per_dim(nats, test.shape) == pytest.approx(2.948, abs=0.002)


def test_gaussian_baseline_attains_the_entropy_of_gaussian_pixels():
  source = np.random.default_rng(0)
  mixing = np.array([[20.0, 0, 0], [15, 10, 0], [-5, 5, 8]])
  pixels = np.clip(np.round(128 + source.normal(size=(20_000, 3)) @ mixing.T), 0, 255)
  pixels = pixels.astype(np.uint8).reshape(-1, 1, 1, 3)
  split = lambda part: sets.Images('made', (1, 1, 3), 256, part.__getitem__, len(part))
  nats = baselines.multivariate_gaussian_nats(split(pixels[:15_000]), split(pixels[15_000:]))
  covariance = mixing @ mixing.T + np.eye(3) / 12
  entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
  assert nats == pytest.approx(entropy, rel=5e-3)


def test_gaussian_needs_more_images_than_dimensions(config):
  assert baselines.gaussian_is_feasible(sets.load(config.data, 'train'))
  few = sets.Images('few', (8, 8, 1), 17, lambda indices: np.zeros((len(indices), 8, 8, 1)), 63)
  assert not baselines.gaussian_is_feasible(few)


def test_bernoulli_baseline_is_the_entropy_of_independent_ink():
  ink = (np.random.default_rng(0).random((20_000, 2, 1, 1)) < [[[0.1]], [[0.5]]]) * np.uint8(255)
  images = sets.Images('made', (2, 1, 1), 256, ink.__getitem__, len(ink))
  entropy = -sum(p * np.log(p) + (1 - p) * np.log(1 - p) for p in (0.1, 0.5))
  assert baselines.bernoulli_nats(images, images) == pytest.approx(entropy, rel=1e-2)

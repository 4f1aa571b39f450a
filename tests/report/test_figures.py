import csv
import os

import jax
import numpy as np
import pytest
from PIL import Image

from conv_draw.build import from_config
from conv_draw.data import sets
from conv_draw.report import figures, labelled, pictures
from conv_draw.training import evaluate, steps, trained
from experiments import digits
from tests.tiny import local, tiny


def test_grid_keeps_every_pixel_in_its_place(tmp_path):
  grid = np.random.default_rng(0).integers(0, 256, (2, 3, 70, 65, 3)).astype(np.uint8)
  path = str(tmp_path / 'figures' / 'grid.png')
  pictures.save_grid(path, grid)
  picture = np.asarray(Image.open(path))
  assert picture.shape == (2 * 72, 3 * 67, 3)
  np.testing.assert_array_equal(picture[72 + 1 : 72 + 71, 2 * 67 + 1 : 2 * 67 + 66], grid[1, 2])
  small = pictures.picture(np.full((1, 2, 8, 8, 1), 7, np.uint8))  # enlarged
  assert small.shape == (66, 2 * 66, 1) and (small[1:65, 1:65] == 7).all()
  grid = pictures.grid_of(np.arange(5, dtype=np.uint8)[:, None, None, None], columns=3)
  np.testing.assert_array_equal(grid[..., 0, 0, 0], [[0, 1, 2], [3, 4, 255]])


def untrained(config):
  images = sets.load(config.data, 'test')
  model = from_config(config, images.shape, images.grey_levels)
  state = steps.create_state(config, model, steps.create_optimizer(config, model), images.shape)
  return trained.of_state(config, '', model, state, images)


@pytest.fixture(scope='module')
def run():
  """Of an untrained model with two layers."""
  config = tiny(digits.get_config())
  config.model.update(upper_features=(3,), upper_latents=(2,), upper_strides=(0,))
  return untrained(config)


def table(path):
  with open(path) as f:
    return list(csv.DictReader(f))


def test_reconstructions_show_originals_then_increasing_t(run):
  np.testing.assert_array_equal(figures.stored_groups(3), [0, 1, 2, 3])
  np.testing.assert_array_equal(figures.stored_groups(32), np.arange(0, 33, 4))
  grid = figures.reconstructions(run)
  assert grid.shape == (5, 3, 8, 8, 1)
  original = run.images.fetch(np.array([0, 149, 299]))
  np.testing.assert_array_equal(grid[0], np.round(original * (255 / 16)).astype(np.uint8))
  assert (grid[1] == grid[1, :1]).all()  # nothing stored, the prior's means: the same for all
  assert (grid[4] != grid[4, :1]).any()


def test_samples_differ_in_the_latents_that_are_not_stored(run):
  params = jax.tree.map(lambda x: 3 * x, run.params)  # differences above one grey value
  some = figures.Reconstructions(run._replace(params=params), 2)
  np.testing.assert_array_equal(some.at(3, 1.0, sample=0), some.at(3, 1.0, sample=1))
  assert (some.at(1, 1.0, sample=0) != some.at(1, 1.0, sample=1)).any()
  np.testing.assert_array_equal(some.at(1, 0.0, sample=0), some.at(1, 0.0, sample=1))
  assert some.psnr(some.originals) == np.inf and some.psnr(some.originals // 2) < 20


@pytest.mark.parametrize('figure, names', [
    (figures.figure_1, ['figure_1_samples', 'figure_1_means']),
    (figures.figure_4, ['figure_4'])])
def test_figures_are_pictures_with_numbers(run, tmp_path, figure, names):
  paths = figure(run, str(tmp_path))
  assert [os.path.basename(path) for path in paths] == [
      name + end for name in names for end in ('.png', '.csv')]
  for picture, numbers in zip(paths[::2], paths[1::2], strict=True):
    assert Image.open(picture).info['dpi'] == pytest.approx((300, 300), abs=1)
    assert np.asarray(Image.open(picture)).std() > 0
    assert table(numbers)


def test_figure_2_has_the_kl_of_an_evaluation(run, tmp_path):
  kl_nats = evaluate.evaluate(run).kl_nats
  _, path = figures.figure_2(run, str(tmp_path))
  numbers = np.array([[float(x) for x in row.values()] for row in table(path)])
  np.testing.assert_array_equal(
      numbers[:, :2], [(t, layer) for layer in (1, 2) for t in (1, 2, 3)])
  np.testing.assert_allclose(numbers[:, 2], kl_nats.T.ravel(), rtol=1e-4)
  np.testing.assert_allclose(numbers[:, 3] * np.log(2), kl_nats.T.ravel(), rtol=1e-4)
  np.testing.assert_allclose(numbers[:, 4] * 64, numbers[:, 3], rtol=1e-4)


def test_figure_3_stores_the_groups_nearest_to_each_rate(run, tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(labelled, 'rows', lambda grid, labels: drawn.append(grid) or b'')
  _, path = figures.figure_3(run, str(tmp_path))
  rows = table(path)
  assert len(drawn[0]) == 3 * len({row['groups'] for row in rows}) < 3 * len(rows)
  some = figures.Reconstructions(run, count=3)
  spent = np.array([some.stored_bits_per_dim(t) for t in range(4)])
  assert spent[0] == 0 and (np.diff(spent) > 0).all()
  for row, rate in zip(rows, pictures.PAPERS_RATES, strict=True):
    assert float(row['rate_bits_per_dim']) == pytest.approx(rate)
    assert abs(float(row['stored_bits_per_dim']) - rate) == pytest.approx(
        abs(spent - rate).min(), abs=1e-5)


def test_figure_5_orders_runs_by_beta(tmp_path):
  runs = []
  for beta in (1.0, 0.4):
    config = tiny(digits.get_config())
    config.objective.beta = beta
    drawn = np.full((4, 8, 8, 1), int(255 * beta), np.uint8)
    runs.append((config, drawn, {'bits_per_dim': 3 + beta}))
  picture, path = figures.figure_5(runs, str(tmp_path))
  assert [(row['beta'], row['test_bits_per_dim']) for row in table(path)] == [
      ('0.4', '3.4'), ('1', '4')]
  grey = np.asarray(Image.open(picture).convert('L'))[:, -40]
  assert 90 < np.median(grey[: len(grey) // 2]) < 110 and np.median(grey[len(grey) // 2 :]) > 250


def test_bounds_are_shown_against_the_kl_of_latents(tmp_path):
  runs = []
  for name, beta, kl_nats, nats in (('b', 1.0, 30.0, 98.0), ('b', 0.5, 10.0, 100.0),
                                    ('a', 1.0, 0.0, 95.0)):
    config = tiny(digits.get_config())
    config.objective.beta = beta
    runs.append((name, config, {
        'nats': nats, 'bits_per_dim': nats / 50, 'kl_nats': kl_nats, 'images': 7,
        'reconstruction_nats': nats - kl_nats,
        'standard_error_nats': np.inf if name == 'a' else 0.5}))  # of one image
  _, path = figures.latents(runs, 'bits_per_dim', str(tmp_path))
  assert [(row['model'], row['latents_bits_per_dim'], row['bound_bits_per_dim'],
           row['pixels_bits_per_dim'], row['standard_error_bits_per_dim'])
          for row in table(path)] == [
              ('a', '0', '1.9', '1.9', 'n/a'), ('b', '0.2', '2', '1.8', '0.01'),
              ('b', '0.6', '1.96', '1.36', '0.01')]


def test_local_figures_chooses_sampled_pixels_or_the_mean(monkeypatch, tmp_path):
  config = local(tiny(digits.get_config()))
  config.model.steps = config.figures.reconstructions = 1
  run = untrained(config)
  labels = []
  monkeypatch.setattr(labelled, 'rows', lambda grid, label: labels.append(label[0]) or b'')
  sharp = figures.samples(run)
  figures.figure_1(run, str(tmp_path))
  config.local.figures = 'canvas'
  smooth = figures.samples(run)
  figures.figure_1(run, str(tmp_path))
  assert ['sampled pixels' in label for label in labels] == [True, True, False, False]
  assert ["canvas's mean" in label for label in labels] == [False, False, True, True]
  grey = 255 / 16  # sampled pixels are grey values of the data
  assert (abs(sharp / grey - np.round(sharp / grey)) < 0.05).all()
  assert smooth.std() < sharp.std() and (abs(smooth / grey - np.round(smooth / grey)) > 0.1).any()


def test_training_curve_joins_the_runs_and_leaves_out_the_untrained_model(monkeypatch, tmp_path):
  drawn = []
  monkeypatch.setattr(labelled, 'png', lambda figure: drawn.append(figure.axes[0]) or b'')
  train = lambda step, nats: {'step': step, 'split': 'train', 'nats': nats}
  test = {'step': 20, 'split': 'test', 'nats': 3.5, 'importance_samples': 1}
  first = [{'step': 0, 'event': 'start'}, train(1, 1000.0), train(10, 9.0), train(20, 5.0)]
  second = [train(10, 4.0), train(10, 4.5), train(20, 3.0), test, test | {
      'importance_samples': 100, 'nats': 2.0}]
  assert figures.training([first, second], 'nats', str(tmp_path)) == [f'{tmp_path}/training.png']
  lines = [np.stack(line.get_data(), 1).tolist() for line in drawn[0].lines]
  assert [[1, 1000], [10, 9], [20, 5]] in lines and [[30, 4.5], [40, 3]] in lines
  assert [[40, 3.5]] in lines
  bottom, top = drawn[0].get_ylim()
  assert 2.5 < bottom < 3 and 9 < top < 10
  assert figures.training([[{'step': 0, 'event': 'start'}]], 'nats', str(tmp_path)) == []

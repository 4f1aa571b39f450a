import pytest

from conv_draw.errors import UserError
from conv_draw.report import table
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics
from experiments import digits, digits_iwae, omniglot


def write(workdir, config, nats, weighted=None):
  """A workdir as training leaves it."""
  config_lib.store(config, workdir)
  lines = metrics.Metrics(workdir)
  lines.event(0, 'start', data='x', parameters=12345, devices=2, device_kind='cpu')
  for step, seconds in ((5, 30.0), (10, 90.0)):
    lines.write(step, 'train', {'nats': nats - 1, 'bits_per_dim': (nats - 1) / 10,
                                'seconds': seconds})
  for k, value in ((1, nats), (64, weighted)):
    if value:
      lines.write(10, 'test', {
          'nats': value, 'bits_per_dim': value / 10, 'standard_error_nats': 0.5, 'images': 300},
          data='made 1.2, test', of=300, importance_samples=k)
  lines.event(10, 'baseline', name='uniform', nats=80.0, bits_per_dim=8.0, data='made 1.2, test',
              images=300, of=300)
  lines.close()
  return str(workdir)


def test_rows_go_from_worst_to_best_with_units_errors_and_costs(tmp_path):
  one = write(tmp_path / 'one', digits.get_config(), 25.0, weighted=24.5)
  two = write(tmp_path / 'two', digits_iwae.get_config(), 31.0)
  lines = table.markdown([one, two]).splitlines()
  assert len(lines) == 5  # both runs computed the same baseline: it is shown once
  cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
  assert {len(row) for row in cells} == {8}
  assert [row[1] for row in cells[2:]] == ['uniform', 'IWAE (2 layers, 50 samples)', 'Conv DRAW']
  assert cells[4] == [
      'made 1.2, test, 300 images, bits/dim', 'Conv DRAW', '< 2.500 ± 0.050 (2.400)',
      '< 2.450 ± 0.050, 64 samples', '12,345', '10', '2.0 min on 2 cpu', one]


def test_last_evaluation_counts_in_nats_for_binary_images(tmp_path):
  workdir = write(tmp_path, omniglot.get_config(), 92.0)
  lines = metrics.Metrics(workdir)
  lines.write(10, 'test', {  # earlier versions wrote inf as the error of one image
      'nats': 93.0, 'bits_per_dim': 9.3, 'standard_error_nats': float('inf'), 'images': 1},
      data='made 1.2, test', of=300, importance_samples=1)
  lines.close()
  line, = [line for line in table.markdown([workdir]).splitlines() if 'Conv DRAW' in line]
  assert '1 of 300 images, nats' in line and '< 93.00 ± n/a (91.00)' in line


@pytest.mark.parametrize('change, name', [
    (dict(), 'Conv DRAW'), (dict(stride=0), 'DRAW'), (dict(kind='vae'), 'Deep VAE'),
    (dict(kind='vae', stride=0), 'VAE'),
    (dict(kind='progressive'), "Transform codec with conv DRAW's decoder"),
    (dict(likelihood='logistic_mixture'), 'Conv DRAW (logistic mixture)')])
def test_models_have_the_papers_names(change, name):
  config = digits.get_config()
  config.model.update(**change)
  assert table.describe(config) == name
  config.objective.beta = 0.4
  assert 'beta = 0.4' in table.describe(config)


def test_run_without_a_bound_is_refused_with_the_remedy(tmp_path):
  config_lib.store(digits.get_config(), tmp_path)
  with pytest.raises(UserError, match='metrics.jsonl'):
    table.markdown([str(tmp_path)])
  lines = metrics.Metrics(tmp_path)
  lines.write(10, 'test', {'nats': 24.0}, importance_samples=64)
  lines.close()
  with pytest.raises(UserError, match='mode=evaluate.*evaluate.importance_samples=1$'):
    table.markdown([str(tmp_path)])


def test_costs_include_the_runs_that_it_started_from(tmp_path):
  config = digits.get_config()
  first = write(tmp_path / 'first', config, 30.0)
  config.train.start_from = first
  second = write(tmp_path / 'second', config, 25.0)
  line, = [line for line in table.markdown([second]).splitlines() if 'Conv DRAW' in line]
  assert '| 20 | 4.0 min on 2 cpu |' in line


def test_runs_continued_with_other_settings_are_marked(tmp_path):
  plain, changed = digits.get_config(), write(tmp_path / 'changed', digits.get_config(), 30.0)
  lines = metrics.Metrics(changed)
  start = dict(data='x', parameters=12345, devices=2, device_kind='cpu')
  lines.event(500, 'start', **start, changed={
      'train.learning_rate': [0.002, 0.001], 'train.steps': [5000, 9000],
      'train.log_every': [100, 1]})
  lines.event(600, 'start', **start, changed={'data.workers': [0, 2]})
  lines.event(7000, 'start', **start | {'devices': 1}, changed={})
  lines.close()
  plain = write(tmp_path / 'plain', plain, 25.0)
  text = table.markdown([changed, plain])
  rows = [line for line in text.splitlines() if 'Conv DRAW' in line]
  assert ['\\*' in row for row in rows] == [True, False] and rows[0].count('|') == 9
  assert text.endswith(
      f'\n\n\\* {changed}: continued at step 500 with other settings: train.learning_rate 0.002 -> '
      '0.001, train.steps 5000 -> 9000; continued at step 7,000 with other settings: '
      'devices 2 -> 1')
  # The mark passes on to runs that start from it.
  config = digits.get_config()
  config.train.start_from = changed
  text = table.markdown([write(tmp_path / 'next', config, 25.0)])
  assert 'Conv DRAW \\*' in text and 'train.learning_rate 0.002 -> 0.001' in text


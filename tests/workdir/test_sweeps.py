import pytest

from conv_draw.errors import UserError
from conv_draw.workdir import sweeps
from experiments import digits


def test_each_point_has_its_own_workdir_and_setting():
  lines = sweeps.listing('experiments/digits.py', 'runs/digits').splitlines()
  assert len(lines) == len({line.split()[1] for line in lines}) == 6
  for i, beta in enumerate((0.2, 0.4, 0.5, 0.6, 0.8, 1.0)):
    assert lines[i].split() == [
        str(i), f'runs/digits/beta_{beta}', f'--config.objective.beta={beta}']
    config = digits.get_config()
    assert sweeps.choose('experiments/digits.py', 'runs/digits', i, config) == lines[i].split()[1]
    assert config.objective.beta == beta


@pytest.mark.parametrize('index', [-1, 6])
def test_points_that_do_not_exist_are_named(index):
  with pytest.raises(UserError, match=f'{index}.*0 to 5'):
    sweeps.choose('experiments/digits.py', 'runs/digits', index, digits.get_config())


def test_experiment_without_sweep_is_named():
  with pytest.raises(UserError, match='photos.py'):
    sweeps.points('experiments/photos.py')


@pytest.mark.parametrize('point', [
    {'objective.bta': 1.0}, {'train.schedule': 'cos'}, {'model.steps': 'many'}])
def test_points_of_other_settings_are_named(monkeypatch, point):
  monkeypatch.setattr(sweeps, 'points', lambda config_file: [point])
  with pytest.raises(UserError, match=next(iter(point))):
    sweeps.choose('experiments/mine.py', 'runs/mine', 0, digits.get_config())


@pytest.mark.parametrize('text, words', [
    ('def get_sweep():\n  return [nothing]\n', 'mine.py, line 2: NameError'),
    ('def get_sweep(:\n', 'mine.py, line 1: SyntaxError: '),
    ('import nothing_of_that_name\n', 'mine.py, line 1: ModuleNotFoundError'),
    ('def get_sweep():\n  return {1: 2}\n', 'a list of dicts')])
def test_mistakes_in_an_experiment_are_said_with_file_and_line(tmp_path, text, words):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  with pytest.raises(UserError, match=words):
    sweeps.points(str(path))

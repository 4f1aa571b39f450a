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
def test_the_index_must_be_that_of_a_point(index):
  with pytest.raises(UserError, match=f'{index}.*0 to 5'):
    sweeps.choose('experiments/digits.py', 'runs/digits', index, digits.get_config())


@pytest.mark.parametrize('given, training, variables, point, source', [
    (None, True, {}, None, ''), (2, True, {'JOB_COMPLETION_INDEX': '3'}, 2, '--sweep_index'),
    (-1, True, {'JOB_COMPLETION_INDEX': '3'}, None, '--sweep_index'),
    (None, True, {'JOB_COMPLETION_INDEX': '3'}, 3, 'JOB_COMPLETION_INDEX'),
    (None, True, {'SLURM_ARRAY_TASK_ID': '4'}, 4, 'SLURM_ARRAY_TASK_ID'),
    (None, False, {'SLURM_ARRAY_TASK_ID': '4'}, None, '')])
def test_the_command_line_goes_before_the_scheduler(
    monkeypatch, given, training, variables, point, source):
  for name in sweeps.SCHEDULERS:
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  found = sweeps.chosen(given, 'experiments/digits.py', training)
  assert found[0] == point and found[1].startswith(source)
  assert sweeps.chosen(None, 'experiments/photos.py', True) == (None, '')  # without a sweep


@pytest.mark.parametrize('point', [{'objective.bta': 1.0}, {'train.schedule': 'cos'}])
def test_invalid_points_are_named(monkeypatch, point):
  monkeypatch.setattr(sweeps, 'points', lambda config_file: [point])
  with pytest.raises(UserError, match=next(iter(point))):
    sweeps.choose('experiments/mine.py', 'runs/mine', 0, digits.get_config())


@pytest.mark.parametrize('text, words', [
    ('def get_sweep():\n  return [nothing]\n', 'mine.py, line 2: NameError'),
    ('def get_sweep(:\n', 'mine.py, line 1: SyntaxError: '),
    ('def get_sweep():\n  return {1: 2}\n', 'a list of dicts')])
def test_mistakes_in_an_experiment_are_named_with_file_and_line(tmp_path, text, words):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  with pytest.raises(UserError, match=words):
    sweeps.points(str(path))

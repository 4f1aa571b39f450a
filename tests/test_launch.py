"""The real command line, in child processes."""

import json
import os
import platform
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from conv_draw.training import checkpoints
from tests.program import ROOT, TINY, launch, saved, start


def test_training_ends_with_the_result_and_two_figures(run):
  workdir, out, error = run
  assert 'digits' in out and '20 of 300 images' in out
  for name in ('uniform', 'multivariate Gaussian', 'Conv DRAW'):
    assert name in out
  assert 'step 12/12' in error and 'images/s' in error and '\r' not in error
  assert 'Traceback' not in error
  for name in ('samples', 'reconstructions'):
    assert np.asarray(Image.open(f'{workdir}/figures/{name}.png')).std() > 0


def test_evaluation_of_a_workdir_repeats_the_result(run):
  workdir, out, _ = run
  status, again, error = launch('--mode=evaluate', f'--workdir={workdir}')
  assert status == 0, error
  result = [line for line in out.splitlines() if 'Conv DRAW' in line]
  assert result and result == [line for line in again.splitlines() if 'Conv DRAW' in line]
  with open(f'{workdir}/metrics.jsonl') as f:
    tests = [line for line in map(json.loads, f) if line.get('split') == 'test']
  assert len(tests) == 2 and tests[0] == tests[1]


def test_flags_override_stored_settings(run):
  workdir, _, _ = run
  status, out, error = launch(
      '--mode=evaluate', '--workdir', workdir, '--config.evaluate.max_images=8',
      '--config.evaluate.importance_samples=3')
  assert status == 0, error
  assert '8 of 300 images, importance-weighted bound, 3 samples' in out


@pytest.mark.parametrize('mode, names', [
    ('sample', ['samples.png']),
    ('figures', sorted(
        ['reconstructions.png', 'samples.png', 'training.png'] + [
            f'figure_{name}.{end}' for name in ('1_samples', '1_means', '2', '3', '4')
            for end in ('png', 'csv')]))])
def test_figure_modes_write_their_files(run, mode, names):
  workdir, _, _ = run
  directory = os.path.join(workdir, 'figures')
  for name in os.listdir(directory):
    os.remove(os.path.join(directory, name))
  status, _, error = launch(f'--mode={mode}', f'--workdir={workdir}')
  assert status == 0, error
  assert sorted(os.listdir(directory)) == names


def test_table_and_figure_5_of_several_runs(run, tmp_path):
  parent = os.path.dirname(run[0])
  other = str(tmp_path / 'other')
  status, _, error = launch(*TINY, f'--workdir={other}', '--sweep_index=1')
  assert status == 0, error
  other = os.path.join(other, 'beta_0.4')
  status, out, error = launch('--mode=table', run[0], other)
  assert status == 0, error
  for words in ('multivariate Gaussian', 'Conv DRAW (beta = 0.4)', '20 of 300 images'):
    assert words in out
  status, out, error = launch('--mode=figures', run[0], other)
  assert status == 0, error
  path = out.split()[1]
  assert path.endswith('figures/figure_5.png') and np.asarray(Image.open(path)).std() > 0
  assert os.path.commonpath([path, parent, other]) == os.path.dirname(os.path.dirname(path))


def test_a_killed_and_resumed_run_ends_with_the_same_bits(run, tmp_path):
  workdir = str(tmp_path / 'killed')
  process = start(*TINY, f'--workdir={workdir}')
  deadline = time.monotonic() + 200
  while not os.path.exists(f'{workdir}/checkpoints/4/commit_success.txt'):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.005)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not os.path.exists(f'{workdir}/figures')  # killed before it was done
  status, out, error = launch(*TINY, f'--workdir={workdir}')
  assert status == 0, error
  assert saved(workdir) == saved(run[0])


@pytest.mark.parametrize('arguments, words', [
    (['--config=experiments/digits.py', '--config.train.stps=3'], ['stps']),
    (['--config=experiments/digits.py', '--config.train.steps=many'], ['train.steps', 'many']),
    (['--config=experiments/nothing.py'], ['nothing.py']),
    (['--config=MINE'], ['MINE, line 3: ZeroDivisionError']),
    (['--config=experiments/digits.py', '--coordinator=localhost:1'],
     ['--coordinator', '--multihost']),
    (['--mode', 'figures', 'figures'], ['figures', 'train first']),  # a run with the mode's name
    (['--mode=report', '--', '--my-run'], ['--my-run', 'train first']),
    (['--config=experiments/digits.py', '--mode=paint'], ['paint']),
    (['--config=experiments/digits.py', 'train.steps=3'], ['train.steps=3', '--config.KEY']),
    ([], ['--config=experiments/digits.py']),
    (['--mode=evaluate'], ['--workdir']),
    (['--mode=table'], ['runs/*']),
    (['--config=experiments/photos.py', '--sweep_index=0'], ['photos.py', 'get_sweep']),
    (['--config=experiments/digits.py', '--config.model.local_horizon=3', '--workdir=NEW'],
     ['model.local_horizon', 'config.local.horizon', 'kind=local']),
    (['--config=experiments/digits.py', '--workdir=FILE'], ['FILE']),
    (['--mode=evaluate', '--workdir=RUN', '--config.data.name=photos'], ['checkpoint', 'channels']),
    (['--config=experiments/cifar10.py', '--config.data.data_dir=NOWHERE', '--workdir=NEW'],
     ['cifar10', 'NOWHERE', 'data.data_dir']),
    ([*TINY, '--config.model.features=5', '--workdir=RUN'], ['RUN', 'model.features', '4', '5']),
    (['--mode=evaluate', '--workdir=RUN', '--config.model.features=5'], ['model.features']),
    (['--config=experiments/digits.py', '--config.data.name=folder',
      '--config.data.data_dir=BROKEN', '--workdir=NEW'], ['bad.png'])])
def test_mistakes_end_in_one_line_and_status_two(run, tmp_path, arguments, words):
  broken = tmp_path / 'broken'
  broken.mkdir()
  for i in range(20):
    Image.new('RGB', (8, 8)).save(broken / f'{i}.png')
  (broken / 'bad.png').write_bytes((broken / '1.png').read_bytes()[:40])
  mine = tmp_path / 'mine.py'
  mine.write_text('def get_config():\n  steps = 0\n  return 1 / steps\n')
  for name, path in (
      ('MINE', mine), ('NOWHERE', tmp_path / 'nowhere'), ('FILE', broken / 'bad.png'),
      ('NEW', tmp_path / 'new'),
      ('BROKEN', broken), ('RUN', run[0])):
    arguments = [a.replace(name, str(path)) for a in arguments]
    words = [w.replace(name, str(path)) for w in words]
  status, out, error = launch(*arguments)
  assert status == 2, error
  assert len(error.strip().splitlines()) == 1 and out == '', error
  for word in words:
    assert word in error
  assert not (tmp_path / 'new' / 'config.json').exists()  # nothing half-written


def test_second_process_on_a_workdir_is_refused(tmp_path):
  workdir = tmp_path / 'shared'
  with checkpoints.only_process(workdir):
    status, _, error = launch(*TINY, f'--workdir={workdir}')
  assert status == 2 and 'another training process' in error and len(error.splitlines()) == 1
  assert os.listdir(workdir) == ['lock']


def test_help_lists_and_mistakes_do_not_wait_for_jax(tmp_path):
  """The program has printed them before it restarts for huge pages and imports JAX."""
  (tmp_path / 'jax.py').write_text('raise SystemExit(98)\n')
  (tmp_path / 'sitecustomize.py').write_text(
      'import os; os.execv = lambda *a: os._exit(99)\n')
  environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  environment['PYTHONPATH'] = str(tmp_path)
  for arguments, status in (
      (['--help'], 0), (['--config=experiments/imagenet64.py', '--sweep'], 0), ([], 2),
      (['--mode=evaluate', f'--workdir={tmp_path}'], 2),
      (['--config=experiments/digits.py', '--config.model.kernel=4'], 2),
      (['--config=experiments/digits.py'], 99 if platform.libc_ver()[0] == 'glibc' else 98)):
    done = subprocess.run(
        [sys.executable, 'launch.py', *arguments], cwd=ROOT, env=environment, text=True,
        capture_output=True)
    assert done.returncode == status, done


def test_the_library_imports_neither_data_sets_nor_checkpoints_nor_flags():
  code = (
      'import sys, conv_draw; assert "jax" not in sys.modules; conv_draw.ConvDraw, conv_draw.elbo; '
      'print([m for m in ("tensorflow_datasets", "orbax", "absl.app", "sklearn", "PIL", '
      '"tensorboardX", "ml_collections") if m in sys.modules])')
  out = subprocess.run(
      [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
  assert out.strip() == '[]'


def test_a_closed_pipe_and_home_directories(tmp_path):
  """`| head -0` is silent; ~ after = is the home directory."""
  command = (f'{sys.executable} launch.py --config=experiments/digits.py --workdir=~/x --sweep')
  environment = os.environ | {'HOME': str(tmp_path)}
  both = subprocess.run(
      ['bash', '-c', f'{command}; {command} | exec 0<&-; echo ${{PIPESTATUS[0]}}'],
      cwd=ROOT, env=environment, text=True, capture_output=True)
  assert both.stderr == ''
  lines = both.stdout.splitlines()
  assert lines[0].split()[1] == f'{tmp_path}/x/beta_0.2' and lines[-1] == '141'


@pytest.mark.parametrize('variable, value, words', [
    ('JAX_PLATFORMS', 'cuda', 'no device'), ('JAX_ENABLE_X64', 'perhaps', 'environment')])
def test_an_environment_that_jax_refuses_is_named(tmp_path, variable, value, words):
  status, out, error = launch(*TINY, f'--workdir={tmp_path}/run', **{variable: value})
  assert status == 2 and out == '' and len(error.splitlines()) == 1, error
  assert variable.lower() in error.lower() and value in error and words in error
  assert not os.path.exists(f'{tmp_path}/run')


def test_the_installed_command_finds_what_experiments_import(tmp_path):
  """Namely `experiments.default`, which is not installed."""
  (tmp_path / 'site').mkdir()
  (tmp_path / 'site' / 'conv_draw').symlink_to(os.path.join(ROOT, 'conv_draw'))
  program = 'import sys; sys.argv[0] = "conv-draw"; from conv_draw import launch; launch.start()'
  done = subprocess.run(
      [sys.executable, '-c', program, f'--config={ROOT}/experiments/imagenet64.py', '--sweep'],
      cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(tmp_path / 'site')}, text=True,
      capture_output=True)
  assert done.returncode == 0 and 'beta' in done.stdout, done.stderr

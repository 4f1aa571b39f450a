"""The files for schedulers in experiments/cluster agree with the program that they start.

Stubs stand for the schedulers' commands where a script decides what follows.
"""

import glob
import os
import re
import subprocess
import sys
import textwrap

import pytest
import yaml  # required by ml_collections and Orbax

from conv_draw.errors import Preempted
from conv_draw.workdir import settings, sweeps
from tests.program import ROOT

CLUSTER = 'experiments/cluster'
FILES = sorted(os.path.relpath(path, ROOT) for path in glob.glob(f'{ROOT}/{CLUSTER}/*'))
SHELL = [path for path in FILES if path.endswith(('.sh', '.sbatch'))]
MANIFESTS = [path for path in FILES if path.endswith('.yaml')]
EXPERIMENT = 'experiments/imagenet64.py'
POINTS = len(sweeps.points(os.path.join(ROOT, EXPERIMENT)))


def read(path):
  with open(os.path.join(ROOT, path)) as f:
    return f.read()


FLAGS = set(re.findall(r"DEFINE\w*\([^']*'(\w+)'", read('conv_draw/launch.py')))
SETTINGS = {setting.key for setting in settings.SETTINGS}


def documents(path):
  """The manifests of a YAML file, by kind."""
  return {document['kind']: document for document in yaml.safe_load_all(read(path))}


def job(path):
  """The spec of a YAML file's Job."""
  kinds = documents(path)
  if 'Job' in kinds:
    return kinds['Job']['spec']
  [replicated] = kinds['JobSet']['spec']['replicatedJobs']
  assert replicated['replicas'] == 1
  return replicated['template']['spec']


def container(path):
  [only] = job(path)['template']['spec']['containers']
  return only


def written_commands(path):
  """The flags of every `launch.py` in a file, comments and documentation included."""
  commands = [
      re.split(r'[\s"`]+', rest.strip()) for rest in
      re.findall(r'launch\.py([^\n;|>#]*)', read(path).replace('\\\n', ' '))]
  if path in MANIFESTS:
    commands.append(container(path)['command'][2:])
  return [[word for word in command if word.startswith('-')] for command in commands]


@pytest.mark.parametrize('path', FILES)
def test_commands_have_flags_settings_and_experiments_that_exist(path):
  commands = written_commands(path)
  assert any('--config=' + EXPERIMENT in command for command in commands)
  for argument in sum(commands, []):
    name, _, value = argument.lstrip('-').partition('=')
    assert name.removeprefix('config.') in (SETTINGS if '.' in name else FLAGS), argument
    assert name != 'config' or os.path.isfile(os.path.join(ROOT, value)), argument


@pytest.mark.parametrize('path', SHELL)
def test_shell_syntax(path):
  process = subprocess.run(['bash', '-n', path], cwd=ROOT, text=True, capture_output=True)
  assert process.returncode == 0, process.stderr
  assert path.endswith('.sbatch') or os.access(os.path.join(ROOT, path), os.X_OK)


def test_every_file_is_documented_and_starts_a_task_for_each_point():
  text = read(f'{CLUSTER}/README.md')
  for path in FILES:
    assert os.path.basename(path) in text or path.endswith('README.md')
  assert set(re.findall(r'exit status (\d\d)', text)) == {str(Preempted.STATUS)}
  assert options(f'{CLUSTER}/sweep.sbatch')['array'] == f'0-{POINTS - 1}'
  assert job(f'{CLUSTER}/sweep.yaml')['completions'] == POINTS
  assert f'POINTS:-{POINTS}' in read(f'{CLUSTER}/tpu_sweep.sh')


# Slurm.


def options(path):
  """The #SBATCH lines, which Slurm reads up to the first command."""
  head = re.match(r'(?:#.*\n|\n)*', read(path)).group()
  lines = re.findall(r'^#SBATCH --([\w-]+)(?:=(\S+))?$', head, re.MULTILINE)
  assert len(lines) == read(path).count('#SBATCH')
  return dict(lines)


def program(directory, name, body):
  path = directory / name
  path.write_text(textwrap.dedent(body).strip() + '\n')
  path.chmod(0o755)


@pytest.mark.parametrize('name, requeued', [('sweep', '70_3'), ('multihost', '71')])
@pytest.mark.parametrize('status', [0, 2, Preempted.STATUS])
def test_slurm_requeues_preempted_runs_and_no_others(name, requeued, status, tmp_path):
  path = f'{CLUSTER}/{name}.sbatch'
  given = options(path)
  assert 'requeue' in given and given['open-mode'] == 'append'
  assert re.fullmatch(r'TERM@\d+', given['signal'])  # B: would signal the script alone
  if name == 'multihost':
    assert given['ntasks-per-node'] == '1' and int(given['nodes']) > 1 and 'array' not in given
    assert '--multihost' in read(path)
  for command in ('srun', 'scontrol'):
    program(tmp_path, command, f'''
        #!/bin/sh
        echo {command} "$@" "$JAX_LOCAL_DEVICE_IDS" >> {tmp_path}/log
        exit {status}
        ''')
  (tmp_path / '.venv' / 'bin').mkdir(parents=True)
  (tmp_path / '.venv' / 'bin' / 'activate').touch()
  process = subprocess.run(
      ['bash', os.path.join(ROOT, path)], cwd=tmp_path, timeout=60, env={
          'PATH': f'{tmp_path}:/usr/bin:/bin', 'HOME': '/home/me', 'SLURM_JOB_ID': '71',
          'SLURM_CPUS_PER_TASK': '16', 'SLURM_GPUS_ON_NODE': '4', 'SLURM_ARRAY_JOB_ID': '70',
          'SLURM_ARRAY_TASK_ID': '3'})
  assert process.returncode == status
  run, *rest = (tmp_path / 'log').read_text().splitlines()
  assert 'python launch.py' in run and run.endswith(' 0,1,2,3' if name == 'multihost' else ' ')
  assert [line.split()[:3] for line in rest] == (
      [['scontrol', 'requeue', requeued]] if status == Preempted.STATUS else [])


# Kubernetes.


@pytest.mark.parametrize('name, action', [('sweep', 'Ignore'), ('multihost', 'FailJob')])
def test_pods_are_told_apart_receive_signals_and_are_preempted_without_failure(name, action):
  path = f'{CLUSTER}/{name}.yaml'
  spec = job(path)
  assert spec['completionMode'] == 'Indexed'  # sets JOB_COMPLETION_INDEX
  assert spec['completions'] == spec['parallelism']
  assert spec['template']['spec']['restartPolicy'] == 'Never'
  assert container(path)['command'][:2] == ['python', 'launch.py'] and 'args' not in container(path)
  rules = spec['podFailurePolicy']['rules']
  assert rules[0] == {'action': action, 'onExitCodes': {
      'containerName': container(path)['name'], 'operator': 'In', 'values': [Preempted.STATUS]}}
  assert rules[1] == {
      'action': action, 'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}]}
  if action == 'FailJob':  # all pods start again, any number of times
    [rule] = documents(path)['JobSet']['spec']['failurePolicy']['rules']
    assert rule['action'] == 'RestartJobSetAndIgnoreMaxRestarts'
    assert rule['onJobFailureReasons'] == ['PodFailurePolicy'] and len(rules) == 2


def test_jax_may_read_its_pods_and_job():
  kinds = documents(f'{CLUSTER}/multihost.yaml')
  account = kinds['ServiceAccount']['metadata']['name']
  pod = job(f'{CLUSTER}/multihost.yaml')['template']['spec']
  assert pod['serviceAccountName'] == account
  assert kinds['RoleBinding']['subjects'] == [{'kind': 'ServiceAccount', 'name': account}]
  assert kinds['RoleBinding']['roleRef']['name'] == kinds['Role']['metadata']['name']
  allowed = {
      (group, resource, verb) for rule in kinds['Role']['rules'] for group in rule['apiGroups']
      for resource in rule['resources'] for verb in rule['verbs']}
  assert allowed == {('', 'pods', 'list'), ('batch', 'jobs', 'get')}
  # JAX takes the JobSet's name for the subdomain of the coordinator.
  assert 'network' not in kinds['JobSet']['spec'] and 'subdomain' not in pod


# Cloud TPU.

# A TPU VM is a directory; its hosts run what they are sent. `happens` has a word for each
# connection to the program: 'disconnected', or 'PREEMPTED' after it has ended.
GCLOUD = """
    #!{python}
    import os, shutil, subprocess, sys
    verb, *rest = sys.argv[4:]
    given = dict(r.removeprefix('--').partition('=')[::2] for r in rest if r.startswith('--'))
    home, command = '{directory}/vm', given.get('command', '')
    verb = 'run' if 'launch.py' in command else verb
    if verb not in ('list', 'ssh'):
      print(verb, file=open('{directory}/log', 'a'))
    if verb == 'list' and os.path.exists(home):
      print('imagenet64-pod', open(home + '/state').read(), sep='\\t')
    elif verb == 'create':
      os.makedirs(home + '/env/bin')
      os.symlink('{directory}/python', home + '/env/bin/python')
      open(home + '/state', 'w').write('READY')
    elif verb == 'delete':
      shutil.rmtree(home)
    elif verb in ('run', 'ssh') and 'apt-get' not in command:
      what = ''
      if verb == 'run':
        what, *happens = open('{directory}/happens').read().split() or ['']
        open('{directory}/happens', 'w').write(' '.join(happens))
      process = subprocess.Popen(
          ['bash', '-c', command], env=os.environ | {{'HOME': home}}, start_new_session=True)
      if what == 'disconnected':
        sys.exit(255)
      status = process.wait()
      if what == 'PREEMPTED':
        open(home + '/state', 'w').write(what)
      sys.exit(status)
    """


@pytest.mark.parametrize('statuses, happens, log', [
    ([0], '', 'create run delete'), ([2], '', 'create run delete'),
    ([75, 75, 0], 'PREEMPTED', 'create run delete create run run delete'),
    ([3], 'disconnected', 'create run run delete')])  # the program has run once
def test_a_tpu_vm_exists_until_its_program_is_done(tmp_path, statuses, happens, log):
  program(tmp_path, 'python', f'''
      #!/bin/bash
      echo "$@" >> {tmp_path}/asked
      sleep {2 * (happens == 'disconnected')}
      statuses=({' '.join(map(str, statuses))})
      exit "${{statuses[$(wc -l < {tmp_path}/asked) - 1]}}"
      ''')
  program(tmp_path, 'gcloud', GCLOUD.format(python=sys.executable, directory=tmp_path))
  (tmp_path / 'happens').write_text(happens)
  process = subprocess.run(
      [f'{ROOT}/{CLUSTER}/tpu_pod.sh'], cwd=tmp_path, text=True, capture_output=True,
      timeout=120, start_new_session=True,
      env={'PATH': f'{tmp_path}:/usr/bin:/bin', 'CHECKOUT': str(tmp_path), 'WAIT': '1'})
  assert process.returncode == statuses[-1], process.stderr
  assert (tmp_path / 'log').read_text().split() == log.split()
  assert not (tmp_path / 'vm').exists()
  asked = (tmp_path / 'asked').read_text().splitlines()
  assert len(asked) == len(statuses) and len(set(asked)) == 1 and '--multihost' in asked[0]

"""The files for schedulers in experiments/cluster agree with the program that they start.

No scheduler is at hand: their commands are stubs here, which tell what they were asked for.
"""

import functools
import glob
import json
import os
import re
import subprocess
import sys
import textwrap

import pytest
import yaml  # ml_collections and Orbax require it

from conv_draw.workdir import sweeps
from experiments import default

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLUSTER = os.path.join(ROOT, 'experiments', 'cluster')
FILES = sorted(os.path.relpath(path, ROOT) for path in glob.glob(f'{CLUSTER}/*'))
SHELL = [path for path in FILES if path.endswith(('.sh', '.sbatch'))]
MANIFESTS = [path for path in FILES if path.endswith('.yaml')]
EXPERIMENT = 'experiments/imagenet64.py'
POINTS = len(sweeps.points(os.path.join(ROOT, EXPERIMENT)))


def preempted():
  """The exit status of a run that was told to end and is not done."""
  from conv_draw import errors
  return errors.Preempted.STATUS


def child(*command, **variables):
  """Runs a command from the root, with nothing around it that looks like a scheduler."""
  environment = {
      k: v for k, v in os.environ.items()
      if k not in ('XLA_FLAGS', 'JOB_COMPLETION_INDEX')
      and not k.startswith(('SLURM', 'KUBERNETES'))}
  return subprocess.run(
      command, cwd=ROOT, env=environment | variables, text=True, capture_output=True, timeout=300)


# What is written in the files.


def read(path):
  with open(os.path.join(ROOT, path)) as f:
    return f.read()


def documents(path):
  """The manifests of a YAML file, by kind."""
  return {document['kind']: document for document in yaml.safe_load_all(read(path))}


def job(path):
  """The spec of the Job that a YAML file is about."""
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
  """The arguments of every `launch.py` in a file, comments and documentation too."""
  text = read(path)
  commands = [
      re.split(r'[\s"`]+', rest.strip()) for rest in
      re.findall(r'launch\.py([^\n;|>#]*)', text.replace('\\\n', ' '))]
  if path in MANIFESTS:
    commands.append(container(path)['command'][2:])
  return [[word for word in command if word.startswith('-')] for command in commands]


@functools.cache
def flags():
  """The names of the program's flags, but for those of its configuration."""
  process = child(
      sys.executable, '-c', 'import json; from conv_draw import launch; '
      'print(json.dumps(list(launch.flags.FLAGS)))')
  assert process.returncode == 0, process.stderr
  return set(json.loads(process.stdout))


def wrong_with(arguments):
  """What the program would not understand."""
  settings = default.get_config()
  for argument in arguments:
    name, _, value = argument.lstrip('-').partition('=')
    known = settings.keys() if name.startswith('config.') else flags()
    if name.startswith('config.'):
      section, _, key = name.removeprefix('config.').partition('.')
      if section not in known or key not in settings[section]:
        yield argument
    elif name not in known or name == 'config' and not os.path.isfile(os.path.join(ROOT, value)):
      yield argument


@pytest.mark.parametrize('path', FILES)
def test_written_commands_have_flags_settings_and_experiments_that_exist(path):
  commands = written_commands(path)
  assert any('--config=' + EXPERIMENT in command for command in commands)
  for command in commands:
    assert not list(wrong_with(command))


@pytest.mark.parametrize('argument', [
    '--multi_host', '--config=experiments/imagenet65.py', '--config.data.directory=/data',
    '--config.date.data_dir=/data'])
def test_what_does_not_exist_is_found(argument):
  assert list(wrong_with(['--config=' + EXPERIMENT, argument])) == [argument]


@pytest.mark.parametrize('path', SHELL)
def test_shell_syntax(path):
  process = child('bash', '-n', path)
  assert process.returncode == 0, process.stderr
  assert path.endswith('.sbatch') or os.access(os.path.join(ROOT, path), os.X_OK)


def test_every_file_is_documented_with_the_exit_status():
  text = read('experiments/cluster/README.md')
  for path in FILES:
    assert os.path.basename(path) in text or path.endswith('README.md')
  assert set(re.findall(r'exit status (\d\d)', text)) == {str(preempted())}


# Slurm.


def options(path):
  """The #SBATCH lines: Slurm reads no more of them after the first command."""
  head = re.match(r'(?:#.*\n|\n)*', read(path)).group()
  assert read(path).count('#SBATCH') == head.count('#SBATCH')
  lines = re.findall(r'^#SBATCH --([\w-]+)(?:=(\S+))?$', head, re.MULTILINE)
  assert len(lines) == head.count('#SBATCH')
  return dict(lines)


def program(directory, name, body):
  path = directory / name
  path.write_text(textwrap.dedent(body).strip() + '\n')
  path.chmod(0o755)


def stub_python(directory, statuses, seconds=0):
  """`python` that adds its arguments to `asked`; leaves with each of the statuses in turn."""
  (directory / 'statuses').write_text('\n'.join(map(str, statuses)))
  program(directory, 'python', f'''
      #!{sys.executable}
      import fcntl, json, os, sys, time
      with open('{directory}/statuses', 'r+') as f:  # several may come at once
        fcntl.flock(f, fcntl.LOCK_EX)
        first, *rest = f.read().split()
        f.seek(0)
        f.write('\\n'.join(rest or [first]).ljust(80))
        with open('{directory}/asked', 'a') as asked:
          print(json.dumps([sys.argv[1:], os.environ.get('JAX_LOCAL_DEVICE_IDS')]), file=asked)
      time.sleep({seconds})
      sys.exit(int(first))
      ''')


def asked(directory):
  """(arguments after launch.py, local devices) of each time that the stub was called."""
  calls = [json.loads(line) for line in (directory / 'asked').read_text().splitlines()]
  assert all(arguments[0] == 'launch.py' for arguments, _ in calls)
  return [(arguments[1:], devices) for arguments, devices in calls]


def sbatch(path, directory, status):
  """Runs a batch script as Slurm would; returns (its status, what it asked of the scheduler)."""
  stub_python(directory, [status])
  program(directory, 'srun', '''
      #!/bin/sh
      while [ "$1" != python ]; do shift; done
      exec "$@"
      ''')
  program(directory, 'scontrol', f'''
      #!/bin/sh
      echo "$@" >> {directory}/scontrol.log
      ''')
  (directory / '.venv' / 'bin').mkdir(parents=True, exist_ok=True)
  (directory / '.venv' / 'bin' / 'activate').touch()
  process = subprocess.run(
      ['bash', os.path.join(ROOT, path)], cwd=directory, text=True, capture_output=True, timeout=60,
      env={'PATH': f'{directory}:/usr/bin:/bin', 'HOME': '/home/me', 'SLURM_JOB_ID': '71',
           'SLURM_CPUS_PER_TASK': '16', 'SLURM_GPUS_ON_NODE': '4'} | (
               {'SLURM_ARRAY_JOB_ID': '70', 'SLURM_ARRAY_TASK_ID': '3'}
               if 'array' in options(path) else {}))
  log = directory / 'scontrol.log'
  return process.returncode, log.read_text() if log.exists() else ''


def test_the_array_has_a_task_for_each_point():
  assert options('experiments/cluster/sweep.sbatch')['array'] == f'0-{POINTS - 1}'


@pytest.mark.parametrize('path, name', [
    ('experiments/cluster/sweep.sbatch', '70_3'), ('experiments/cluster/multihost.sbatch', '71')])
def test_slurm_requeues_a_run_that_is_not_done_and_no_other(path, name, tmp_path):
  given = options(path)
  assert 'requeue' in given and given['open-mode'] == 'append'
  # Without the B: that would send it to the script alone.
  assert re.fullmatch(r'TERM@\d+', given['signal'])
  for status in (0, 1, 2, 137):
    assert sbatch(path, tmp_path, status) == (status, '')
  assert sbatch(path, tmp_path, preempted()) == (preempted(), f'requeue {name}\n')


def test_slurm_starts_one_process_on_each_node_with_all_of_its_gpus(tmp_path):
  path = 'experiments/cluster/multihost.sbatch'
  given = options(path)
  assert given['ntasks-per-node'] == '1' and int(given['nodes']) > 1 and 'array' not in given
  sbatch(path, tmp_path, 0)
  [(arguments, local_devices)] = asked(tmp_path)
  assert '--multihost' in arguments
  assert local_devices == '0,1,2,3'  # else JAX takes one for each process


# Kubernetes.


@pytest.mark.parametrize('path', MANIFESTS)
def test_pods_are_told_apart_and_signals_reach_the_program(path):
  spec = job(path)
  assert spec['completionMode'] == 'Indexed'  # JOB_COMPLETION_INDEX
  assert spec['completions'] == spec['parallelism']
  assert spec['template']['spec']['restartPolicy'] == 'Never'
  assert container(path)['command'][:2] == ['python', 'launch.py'] and 'args' not in container(path)


@pytest.mark.parametrize('path, action', [
    ('experiments/cluster/sweep.yaml', 'Ignore'),
    ('experiments/cluster/multihost.yaml', 'FailJob')])
def test_kubernetes_counts_no_preemption_as_failure(path, action):
  rules = job(path)['podFailurePolicy']['rules']
  assert rules[0] == {'action': action, 'onExitCodes': {
      'containerName': container(path)['name'], 'operator': 'In', 'values': [preempted()]}}
  assert rules[1] == {
      'action': action, 'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}]}
  if action == 'FailJob':  # all pods start again, whatever the number of times
    [rule] = documents(path)['JobSet']['spec']['failurePolicy']['rules']
    assert rule['action'] == 'RestartJobSetAndIgnoreMaxRestarts'
    assert rule['onJobFailureReasons'] == ['PodFailurePolicy'] and len(rules) == 2


def test_the_job_has_a_pod_for_each_point():
  assert job('experiments/cluster/sweep.yaml')['completions'] == POINTS


def test_jax_may_ask_for_its_pods_and_job():
  kinds = documents('experiments/cluster/multihost.yaml')
  account = kinds['ServiceAccount']['metadata']['name']
  pod = job('experiments/cluster/multihost.yaml')['template']['spec']
  assert pod['serviceAccountName'] == account
  assert kinds['RoleBinding']['subjects'] == [{'kind': 'ServiceAccount', 'name': account}]
  assert kinds['RoleBinding']['roleRef']['name'] == kinds['Role']['metadata']['name']
  allowed = {
      (group, resource, verb) for rule in kinds['Role']['rules'] for group in rule['apiGroups']
      for resource in rule['resources'] for verb in rule['verbs']}
  assert allowed == {('', 'pods', 'list'), ('batch', 'jobs', 'get')}
  # Its name for the coordinator has the JobSet's name for the subdomain.
  assert 'network' not in kinds['JobSet']['spec'] and 'subdomain' not in pod


# TPU VMs.

GCLOUD = """
    #!{python}
    import os, shutil, subprocess, sys
    assert sys.argv[1:4] == ['compute', 'tpus', 'tpu-vm'], sys.argv
    verb, *rest = sys.argv[4:]
    given = dict(r.removeprefix('--').partition('=')[::2] for r in rest if r.startswith('--'))
    assert 'zone' in given and 'quiet' in given
    name = ''.join(r for r in rest if not r.startswith('--'))
    home, state = f'{directory}/vm/{{name}}', f'{directory}/vm/{{name}}/state'
    command = given.get('command', '')
    if 'launch.py' in command:
      verb = 'run'
    with open('{directory}/gcloud.log', 'a') as f:
      print(verb, name, file=f)
    if verb == 'list':
      for vm in os.listdir('{directory}/vm'):
        print(vm, open(f'{directory}/vm/{{vm}}/state').read(), sep='\\t')
    elif verb == 'create':
      assert {{'accelerator-type', 'version'}} <= set(given), given
      os.makedirs(f'{{home}}/env/bin')
      os.symlink('{directory}/python', f'{{home}}/env/bin/python')
      open(state, 'w').write('READY')
    elif verb == 'delete':
      shutil.rmtree(home)
    else:
      assert open(state).read() == 'READY' and given['worker'] == 'all'
      if 'apt-get' in command:
        sys.exit(0)
      process = subprocess.Popen(
          ['bash', '-c', command], env=os.environ | {{'HOME': home}}, start_new_session=True)
      what = (open('{directory}/happens').read().split() + ['nothing'])[0] if verb == 'run' else ''
      if what:
        happens = open('{directory}/happens').read().split()[1:]
        open('{directory}/happens', 'w').write(' '.join(happens))
      if what == 'disconnected':
        sys.exit(255)
      status = process.wait()
      if what == 'PREEMPTED':
        open(state, 'w').write(what)
      sys.exit(status)
    """


def tpu(script, directory, statuses, happens='', seconds=0):
  """Runs a script with a stub of gcloud, whose TPU VMs are directories that run what they are sent.

  Args:
    statuses: of the program, each time that it is started.
    happens: to each connection in turn: 'disconnected' while the program runs, or 'PREEMPTED' when
      it has ended.
    seconds: that the program takes.
  Returns:
    (its status, what gcloud was asked, without questions)
  """
  stub_python(directory, statuses, seconds)
  program(directory, 'gcloud', GCLOUD.format(python=sys.executable, directory=directory))
  (directory / 'happens').write_text(happens)
  (directory / 'vm').mkdir()
  process = subprocess.run(
      [os.path.join(ROOT, 'experiments', 'cluster', script)], cwd=directory, text=True,
      capture_output=True, timeout=120, start_new_session=True, env={
          'PATH': f'{directory}:/usr/bin:/bin', 'CHECKOUT': str(directory), 'WAIT': '1'})
  assert not list((directory / 'vm').iterdir()), process.stderr  # nothing that costs is left
  log = (directory / 'gcloud.log').read_text().splitlines()
  return process.returncode, [line for line in log if not line.startswith(('list', 'ssh'))]


@pytest.mark.parametrize('status', [0, 2])
def test_a_tpu_vm_is_there_as_long_as_its_program(status, tmp_path):
  name = 'imagenet64-pod'
  assert tpu('tpu_pod.sh', tmp_path, [status]) == (
      status, [f'create {name}', f'run {name}', f'delete {name}'])
  [(arguments, _)] = asked(tmp_path)
  assert '--multihost' in arguments


def test_a_program_that_is_not_done_is_started_again_on_another_tpu_vm_if_it_must(tmp_path):
  name = 'imagenet64-pod'
  status, log = tpu(
      'tpu_pod.sh', tmp_path, [preempted(), preempted(), 0], happens='PREEMPTED nothing')
  assert status == 0 and log == [
      f'create {name}', f'run {name}', f'delete {name}',
      f'create {name}', f'run {name}', f'run {name}', f'delete {name}']
  first, *others = [arguments for arguments, _ in asked(tmp_path)]
  assert others == [first, first]


def test_a_lost_connection_does_not_end_the_program_on_a_tpu_vm(tmp_path):
  name = 'imagenet64-pod'
  status, log = tpu('tpu_pod.sh', tmp_path, [3], happens='disconnected', seconds=4)
  assert (status, log) == (3, [f'create {name}', f'run {name}', f'run {name}', f'delete {name}'])
  assert len(asked(tmp_path)) == 1


def test_each_point_has_a_tpu_vm(tmp_path):
  status, log = tpu('tpu_sweep.sh', tmp_path, [0] * (POINTS - 1) + [2])
  assert status == 1 and len({line for line in log if line.startswith('create')}) == POINTS
  given = [arguments for arguments, _ in asked(tmp_path)]
  assert sorted(a for arguments in given for a in arguments if a.startswith('--sweep_index')) == [
      f'--sweep_index={i}' for i in range(POINTS)]


# What the program makes of the commands, as they reach it.


def commands(tmp_path):
  """{file: the arguments of launch.py} of one process each."""
  given = {path: container(path)['command'][2:] for path in MANIFESTS}
  for path in SHELL:
    directory = tmp_path / os.path.basename(path)
    directory.mkdir()
    if path.endswith('.sbatch'):
      sbatch(path, directory, 0)
    else:
      tpu(os.path.basename(path), directory, [0])
    given[path] = asked(directory)[0][0]
  return given


def test_the_program_understands_the_commands_and_asks_the_scheduler_for_the_point(tmp_path):
  for path, arguments in commands(tmp_path).items():
    if path.endswith('.sh'):  # the point is on the command line
      process = child(sys.executable, 'launch.py', *arguments, '--sweep')
      assert (process.returncode, len(process.stdout.splitlines())) == (0, POINTS), process.stderr
      continue
    variable = 'SLURM_ARRAY_TASK_ID' if path.endswith('.sbatch') else 'JOB_COMPLETION_INDEX'
    process = child(sys.executable, 'launch.py', *arguments, **{variable: str(POINTS)})
    # There is no such point; or no cluster here, whatever the number.
    expected = '--multihost:' if '--multihost' in arguments else f'0 to {POINTS - 1}'
    assert process.returncode == 2 and expected in process.stderr, (path, process.stderr)

"""Trained models that come with the package: workdirs with weights.npz in place of checkpoints.

`python -m conv_draw.pretrained --workdir=runs/NAME --out=DIR` makes one of a run. All that reads a
workdir takes them: `launch.py --mode=evaluate --workdir=DIR`, the codec, `train.start_from`.
"""

import io
import json
import os
import secrets
import shutil
import zipfile
import zlib

import jax
import numpy as np

from conv_draw.errors import UserError, reason
from conv_draw.machine.files import write_file
from conv_draw.progressive import weights as weights_lib
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics

ROOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'pretrained')
FILE = 'weights.npz'
LINES = 300  # of a run's metrics.jsonl, at most


def path(name):
  """The workdir of a model that comes with the package: cifar10, cifar10_codec, cifar10_local..."""
  return os.path.join(ROOT, name)


def names():
  """Of the models that come with the package."""
  return sorted(name for name in os.listdir(ROOT) if is_one(path(name)))


def named(name):
  """`path` of one that there is.

  Raises:
    UserError: there is none of that name.
  """
  if name not in names():
    raise UserError(f'no model {name} comes with the package: there are {", ".join(names())}')
  return path(name)


def listing():
  """Yields a line about each model: its name, size, data, result and what it codes."""
  for name in names():
    workdir = path(name)
    config = config_lib.load(workdir)
    with open(os.path.join(workdir, 'images.json')) as f:
      data = json.load(f)['name'].removesuffix(', train')
    test = [line for line in metrics.read(workdir) if line.get('split') == 'test'][-1]
    result = (f'{test["nats"]:.2f} nats' if config_lib.is_binary(config)
              else f'{test["bits_per_dim"]:.3f} bits/dim')
    size = os.path.getsize(os.path.join(workdir, FILE))
    yield f'{name:20} {size / 1e6:4.1f} MB  {data:30} {result:15} {_coded(config)}'


def _coded(config):
  """What a model is for in the codec, in a word or two."""
  m = config.model
  if m.kind == 'local' and config.local.numbers == 'whole':
    return 'lossless files'
  if m.kind == 'progressive':
    return 'lossy files'
  if m.posterior in ('rounded', 'uniform'):
    return 'lossy and lossless files'
  return 'archives' if m.steps else ''


def is_one(workdir):
  """Whether a workdir holds weights.npz, and so is to be read only."""
  return os.path.exists(os.path.join(workdir, FILE))


def read(workdir, like):
  """(parameters, step) of weights.npz.

  Args:
    like: the parameters' structure, of arrays or `jax.ShapeDtypeStruct`s.
  Raises:
    UserError: damaged, or of another model.
  """
  file = os.path.join(workdir, FILE)
  try:
    with np.load(file, allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as e:
    raise UserError(f'{file} is damaged ({reason(e)}): restore it') from None
  step = int(arrays.pop('step', 0))
  paths = {name: name.rpartition("['")[2].removesuffix("']") for name in arrays}
  left_out = weights_lib.encoder_of(list(paths.values()))
  arrays = {name: array for name, array in arrays.items() if paths[name] not in left_out}
  leaves, structure = jax.tree_util.tree_flatten_with_path(like)
  names = [jax.tree_util.keystr(where) for where, _ in leaves]
  if {n: a.shape for n, a in arrays.items()} != {
      n: leaf.shape for n, (_, leaf) in zip(names, leaves, strict=True)}:
    raise UserError(f'{file} is of a model of other shapes: leave config.model as it is stored')
  values = [arrays[n].astype(leaf.dtype) for n, (_, leaf) in zip(names, leaves, strict=True)]
  return jax.tree_util.tree_unflatten(structure, values), step


def earlier_logs(workdir):
  """Paths of metrics_1.jsonl, ...: of the runs that the model's run started from, oldest first."""
  paths = []
  while os.path.exists(path := os.path.join(workdir, f'metrics_{len(paths) + 1}.jsonl')):
    paths.append(path)
  return paths


def write(workdir, logs, params, step, out):
  """Makes `out` of a run: its config, what it knows of its data, thinned logs, and `params`.

  By that config the model is scored on all images, whatever the run was content with.

  Args:
    logs: paths of metrics.jsonl of the runs it started from, oldest first, and of the run.
  """
  out = os.path.abspath(out)
  if os.path.lexists(out):
    raise UserError(f'{out} exists: name a new directory, or remove it')
  above = os.path.dirname(out)
  while not os.path.lexists(above):
    above = os.path.dirname(above)
  # Whole or not at all: made where `out` will be, under a name that nobody else has.
  temporary = os.path.join(above, f'.cdraw-{secrets.token_hex(8)}.tmp')
  try:
    os.mkdir(temporary)
    _fill(workdir, logs, params, step, temporary)
    os.makedirs(os.path.dirname(out), exist_ok=True)
    os.rename(temporary, out)
  except BaseException:  # of any kind: an interrupt leaves nothing behind either
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def _fill(workdir, logs, params, step, out):
  arrays = {jax.tree_util.keystr(where): np.asarray(value)
            for where, value in jax.tree_util.tree_leaves_with_path(params)}
  weights = io.BytesIO()
  np.savez_compressed(weights, step=step, **arrays)
  write_file(os.path.join(out, FILE), weights.getvalue())
  with open(os.path.join(workdir, 'images.json'), 'rb') as f:
    write_file(os.path.join(out, 'images.json'), f.read())
  with open(os.path.join(workdir, 'config.json')) as f:
    stored = json.load(f)
  stored['data']['data_dir'] = stored['train']['start_from'] = ''  # paths elsewhere
  stored['evaluate']['max_images'] = 0  # what is published is measured on the whole test split
  write_file(os.path.join(out, 'config.json'), json.dumps(stored, indent=2) + '\n')
  for i, log in enumerate(logs, 1):
    name = 'metrics.jsonl' if i == len(logs) else f'metrics_{i}.jsonl'
    lines = _thinned(metrics.read_file(log))
    write_file(os.path.join(out, name), ''.join(metrics.line(line) for line in lines))


def _thinned(lines):
  """A log without most of its lines on training; those left have the time of those that are not."""
  training = [i for i, line in enumerate(lines) if line.get('split') == 'train']
  kept = {*training[:: -(-len(training) // LINES) or 1], *training[-1:]}
  seconds, result = 0.0, []
  for i, line in enumerate(lines):
    if i in kept:
      line, seconds = line | {'seconds': seconds + line['seconds']}, 0.0
    elif line.get('split') == 'train':
      seconds += line['seconds']
      continue
    result.append(line)
  return result

"""Published models: directories with weights.npz in place of checkpoints, some in the package.

`python -m conv_draw.pretrained --workdir=runs/NAME --out=DIR` publishes a run. Every command that
reads a workdir accepts DIR: `launch.py --mode=evaluate`, the codec, `train.start_from`.
"""

import io
import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from conv_draw.errors import UserError, reason
from conv_draw.machine.files import write_file
from conv_draw.progressive import weights as weights_lib
from conv_draw.workdir import config as config_lib
from conv_draw.workdir import metrics

ROOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'pretrained')
FILE = 'weights.npz'
LINES = 300  # most lines on training that are kept of a metrics.jsonl


def path(name: str) -> str:
  """The directory of a packaged model, such as cifar10."""
  return os.path.join(ROOT, name)


def names() -> list[str]:
  """The names of the packaged models, sorted."""
  return sorted(name for name in os.listdir(ROOT) if is_one(path(name)))


def named(name: str) -> str:
  """As `path`; raises `UserError` if there is no such model."""
  if name not in names():
    raise UserError(f'no model {name} comes with the package: there are {", ".join(names())}')
  return path(name)


def listing() -> Iterator[str]:
  """Yields a line for each packaged model: its name, size, data, result and use in the codec."""
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
  """The kind of files that the codec writes with a model, in words."""
  m = config.model
  if m.kind == 'local' and config.local.numbers == 'whole':
    return 'lossless files'
  if m.kind == 'progressive':
    return 'lossy files'
  if m.posterior in ('rounded', 'uniform'):
    return 'lossy and lossless files'
  return 'archives' if m.steps else ''


def is_one(workdir: str) -> bool:
  """Whether a workdir is a published model, which is read-only."""
  return os.path.exists(os.path.join(workdir, FILE))


def read(workdir: str, like: Any) -> tuple[Any, int]:
  """(parameters, step) of weights.npz.

  Args:
    like: the parameters' structure, of arrays or `jax.ShapeDtypeStruct`s.
  Raises:
    UserError: the file is damaged, or of another model.
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


def earlier_logs(workdir: str) -> list[str]:
  """Paths of metrics_1.jsonl, ...: the logs of the runs that the run started from, in order."""
  paths = []
  while os.path.exists(path := os.path.join(workdir, f'metrics_{len(paths) + 1}.jsonl')):
    paths.append(path)
  return paths


def write(workdir: str, logs: Sequence[str], params: Any, step: int, out: str) -> None:
  """Publishes a run in the new directory `out`: weights, config, images.json and thinned logs.

  The published config evaluates all images, even if that of the run does not.

  Args:
    logs: paths of metrics.jsonl of the runs it started from, oldest first, and of the run.
  Raises:
    UserError: `out` exists, or cannot be written.
  """
  out = os.path.abspath(out)
  if os.path.lexists(out):
    raise UserError(f'{out} exists: name a new directory, or remove it')
  above = os.path.dirname(out)
  while not os.path.lexists(above):
    above = os.path.dirname(above)
  # Written under a unique name on the same disk, then renamed: complete or absent.
  temporary = os.path.join(above, f'.cdraw-{secrets.token_hex(8)}.tmp')
  try:
    os.mkdir(temporary)
    _fill(workdir, logs, params, step, temporary)
    os.makedirs(os.path.dirname(out), exist_ok=True)
    os.rename(temporary, out)
  except BaseException:  # an interrupt too leaves nothing behind
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def _fill(workdir, logs, params, step, out):
  """Writes the files of `write` to the directory `out`."""
  arrays = {jax.tree_util.keystr(where): np.asarray(value)
            for where, value in jax.tree_util.tree_leaves_with_path(params)}
  weights = io.BytesIO()
  np.savez_compressed(weights, step=step, **arrays)
  write_file(os.path.join(out, FILE), weights.getvalue())
  with open(os.path.join(workdir, 'images.json'), 'rb') as f:
    write_file(os.path.join(out, 'images.json'), f.read())
  with open(os.path.join(workdir, 'config.json')) as f:
    stored = json.load(f)
  stored['data']['data_dir'] = stored['train']['start_from'] = ''  # paths of one machine
  stored['evaluate']['max_images'] = 0  # published results are of the whole test split
  write_file(os.path.join(out, 'config.json'), json.dumps(stored, indent=2) + '\n')
  for i, log in enumerate(logs, 1):
    name = 'metrics.jsonl' if i == len(logs) else f'metrics_{i}.jsonl'
    lines = _thinned(metrics.read_file(log))
    write_file(os.path.join(out, name), ''.join(metrics.line(line) for line in lines))


def _thinned(lines):
  """A log with at most `LINES` lines on training, whose times include those of omitted lines."""
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

"""What this tree computes, for every experiment and every packaged model.

  python -m tests.golden.measure OUT.npz [NAME ...]

writes all values, or those of the experiments and models named. `compare` runs this in two trees
and compares what they write to the last bit; `test_values` compares a part with what was recorded.
A redesign changes this module where it calls the model, and leaves names and values as they are.
"""

import functools
import glob
import hashlib
import importlib
import json
import os
import sys

import jax
import numpy as np
from ml_collections import config_dict
from sklearn import datasets

from conv_draw.build import from_config
from conv_draw.codec.coder import Coder
from conv_draw.machine.devices import AXIS
from conv_draw.model import objective
from conv_draw.training import steps, trained
from conv_draw.workdir import published, settings
from experiments import default

EXPERIMENTS = sorted(
    os.path.splitext(os.path.basename(path))[0]
    for path in glob.glob(os.path.join(os.path.dirname(default.__file__), '*.py')))
MODELS = published.names()
CODERS = {  # of single images -> arguments of `Coder.encode`
    'photos_lossless': (dict(lossless=True),),
    'photos_lossy': ({}, dict(groups=9, qp_offset=40)),
    'cifar10_codec': ({}, dict(lossless=True)),
    'cifar10_lossless': (dict(lossless=True),),
    'cifar10_lossy': ({},),
}


def drawn(name, shape, dtype):
  """The values of a parameter, drawn by NumPy from its name: whatever order others come in.

  Of the progressive model, what training does not move is as it could be.
  """
  seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), 'little')
  noise = np.random.default_rng(seed).standard_normal(shape)
  last = name.rpartition('[')[2].strip("']")
  if last == 'linear_component':
    values = np.arange(noise.size).reshape(shape) % 7
  elif last == 'linear_width':
    values = 20 + 20 * abs(noise)
  elif last in ('linear_worth', 'restoration_size'):
    values = 1 + abs(noise)
  elif last.startswith('posterior_log'):
    values = 0.02 * noise
  elif last.startswith('linear_') or noise.ndim < 2 or last == 'initial_canvas':
    values = 0.1 * noise
  else:
    values = noise / np.sqrt(np.prod(shape[:-1]))
  return values.astype(dtype)


def draw_all(shapes):
  """Parameters of these shapes: a tree of arrays."""
  return jax.tree_util.tree_map_with_path(
      lambda path, like: drawn(jax.tree_util.keystr(path), like.shape, like.dtype), shapes)


def small(config):
  """An experiment at a size that compiles in moments."""
  m = config.model
  few = tuple(3 for _ in m.upper_strides)
  m.update(
      steps=5 if m.kind == 'progressive' else min(m.steps, 3), features=4, latents=2,
      upper_features=few, upper_latents=few, mixtures=2)
  if m.kind == 'local':
    config.local.update(features=6, mixtures=2)
  if m.kind == 'progressive':
    config.progressive.post_filter = 4 if config.progressive.post_filter else 0
  return config


def experiment(name):
  """{what: array} of a training step of an experiment, on one device."""
  config = small(importlib.import_module(f'experiments.{name}').get_config())
  binary = config.data.name == 'omniglot'
  channels = 1 if binary or config.data.name == 'digits' else 3
  what_counts = {section: config[section].to_dict()
                 for section in ('model', 'objective', *settings.KINDS) if section in config}
  what_counts['train'] = {key: config.train[key] for key in ('part', 'seed')}
  return _step(json.dumps(what_counts, sort_keys=True), channels)


@functools.cache  # at this size, many experiments are the same
def _step(config, channels):
  config = config_dict.ConfigDict(json.loads(config))
  images = np.random.default_rng(0).integers(0, 256, (1, 2, 9, 10, channels)).astype(np.uint8)
  model = from_config(config, images.shape[2:], 256)
  key = jax.random.key(0)
  params = draw_all(jax.eval_shape(model.init, key, key, images[0]))
  state = steps.TrainState(np.int32(3), np.int32(0), params, None, None)
  step = jax.pmap(
      functools.partial(steps.loss_and_gradients, model=model, config=config), axis_name=AXIS,
      devices=jax.devices()[:1])
  loss, gradients, terms = step(jax.tree.map(lambda x: np.asarray(x)[None], state), images)
  found = {'loss': loss, 'kl_nats': terms.kl_nats, 'reconstruction_nats': terms.reconstruction_nats}
  for path, value in jax.tree_util.tree_leaves_with_path(params):
    found[f'parameter {jax.tree_util.keystr(path)}'] = value
  for path, value in jax.tree_util.tree_leaves_with_path(gradients):
    found[f'gradient {jax.tree_util.keystr(path)}'] = value[0]
  return {what: np.asarray(value) for what, value in found.items()}


def packaged(name):
  """{what: array} of a packaged model on two images: terms, a sample, half of the groups."""
  run = trained.named(name)
  model, params, (height, width, channels) = run.model, run.params, run.images.shape
  rng = np.random.default_rng(1)
  size = (2, min(height, 32), min(width, 32), channels)
  images = rng.integers(0, 256, size).astype(np.uint8)
  if run.config.data.name == 'omniglot':
    images = (images > 200).astype(np.uint8) * np.uint8(255)
  keys = jax.random.split(jax.random.key(2), 2)

  @jax.jit
  def terms(params):
    inference = model.apply(params, keys, images)
    found = objective.elbo(model, images, inference)._asdict()
    if model.embedded:
      found |= {'prefix_nats': inference.canvas_nats, 'squared_error': inference.squared_error}
    return found

  found = dict(terms(params))
  if model.iterations:
    found['sample'] = jax.jit(lambda params: model.apply(
        params, keys, 2, size[1:3], method='sample'))(params)
    found['half of the groups'] = jax.jit(lambda params: model.apply(
        params, keys, images, model.iterations // 2, temperature=0.0, method='reconstruct'))(params)
  return {what: np.asarray(value) for what, value in found.items()}


def files(name):
  """{what: bytes as uint8} of files that a packaged model writes of a photograph."""
  image = datasets.load_sample_image('china.jpg')[150:182, 300:340]
  coder = Coder.load(published.path(name))
  return {f'file {i}': np.frombuffer(coder.encode(image, **how).data, np.uint8)
          for i, how in enumerate(CODERS.get(name, ()))}


def all_of(names=()):
  """{'experiment or model: what': array} of those named, or of all."""
  unknown = set(names) - {*EXPERIMENTS, *MODELS}
  assert not unknown, unknown
  found = {}
  for group, of_group, all_names in (
      ('experiments', experiment, EXPERIMENTS), ('models', packaged, MODELS),
      ('models', files, list(CODERS))):
    for name in all_names:
      if not names or name in names:
        print(group, name, file=sys.stderr, flush=True)
        found |= {f'{group}/{name}: {what}': value for what, value in of_group(name).items()}
        jax.clear_caches()
  return found


if __name__ == '__main__':
  np.savez_compressed(sys.argv[1], **all_of(sys.argv[2:]))

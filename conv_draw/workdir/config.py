"""The experiment's configuration as the workdir stores it."""

import json
import os

from ml_collections import config_dict

from conv_draw.errors import UserError

# A run may be continued with these changed: what has been computed stays valid.
MAY_CHANGE = (
    'data.data_dir', 'data.workers', 'train.learning_rate', 'train.clip_norm', 'train.steps',
    'train.log_every', 'train.checkpoint_every', 'train.evaluate_every', 'evaluate.', 'figures.',
    'spikes.')

CHOICES = {
    'data.split_by': ('drawer', 'alphabet'),
    'model.kind': ('draw', 'vae'),
    'model.likelihood': ('gaussian', 'logistic_mixture', 'bernoulli'),
    'model.posterior': ('gaussian', 'constant', 'rounded', 'uniform'),
    'model.compute_dtype': ('float32', 'bfloat16'),
    'objective.bound': ('elbo', 'iwae'),
    'train.schedule': ('constant', 'cosine'),
    'train.part': ('all', 'decoder'),
}
AT_LEAST_ONE = (
    'model.steps', 'model.features', 'model.latents', 'model.mixtures', 'model.depth',
    'objective.samples', 'train.steps', 'train.batch_size', 'train.log_every',
    'train.checkpoint_every', 'spikes.window', 'evaluate.batch_size',
    'evaluate.importance_samples', 'figures.samples',
    'figures.reconstructions')
NOT_NEGATIVE = (
    'data.image_size', 'data.binarisation_seed', 'data.workers', 'model.stride', 'objective.beta',
    'train.seed', 'train.learning_rate', 'train.warmup_steps', 'train.clip_norm',
    'train.evaluate_every', 'spikes.trust_after', 'spikes.max_reverts', 'evaluate.max_images',
    'evaluate.seed', 'figures.temperature')
OTHERS = (
    'data.name', 'data.data_dir', 'data.hold_out', 'model.kernel', 'model.upper_features',
    'model.upper_latents', 'model.upper_strides', 'model.remat', 'train.ema_decay',
    'train.start_from', 'spikes.threshold')


def check(config):
  """Raises `UserError` for the first setting whose value makes no sense."""
  flat = _flat(config.to_dict())
  for key in (*CHOICES, *AT_LEAST_ONE, *NOT_NEGATIVE, *OTHERS):
    if key not in flat:
      raise UserError(
          f'the config has no setting {key}: it was written by another version of this program; '
          'add the setting to config.json as in experiments/default.py')
  for key, choices in CHOICES.items():
    if flat[key] not in choices:
      raise UserError(f'--config.{key} is {flat[key]!r}; it can be ' + ' or '.join(choices))
  for keys, least in ((AT_LEAST_ONE, 1), (NOT_NEGATIVE, 0)):
    for key in keys:
      if not isinstance(flat[key], int | float):
        raise UserError(f'--config.{key} is {flat[key]!r}; it must be a number')
      if not flat[key] >= least:
        raise UserError(f'--config.{key} is {flat[key]}; it must be at least {least}')
  if (flat['model.likelihood'] == 'bernoulli') != (flat['data.name'] == 'omniglot'):
    raise UserError(
        f'--config.model.likelihood={flat["model.likelihood"]} does not go with '
        f'--config.data.name={flat["data.name"]}: bernoulli is for omniglot, the others '
        'for the rest')
  _check_upper(flat)
  if flat['model.kind'] == 'vae' and flat['model.posterior'] != 'gaussian':
    raise UserError('--config.model.posterior can only be gaussian with --config.model.kind=vae')
  if flat['model.kernel'] < 1 or flat['model.kernel'] % 2 == 0:
    raise UserError(f'--config.model.kernel is {flat["model.kernel"]}; it must be odd')
  for key in ('train.ema_decay', 'data.hold_out'):
    if not 0 <= flat[key] < 1:
      raise UserError(f'--config.{key} is {flat[key]}; it must be at least 0 and below 1')


def _check_upper(flat):
  """The settings of the layers above the first agree with each other."""
  names = ('features', 'latents', 'strides')
  upper = [flat[f'model.upper_{name}'] for name in names]
  if len({len(numbers) for numbers in upper}) > 1:
    raise UserError(
        f'--config.model.upper_features has {len(upper[0])} numbers, upper_latents {len(upper[1])} '
        f'and upper_strides {len(upper[2])}; they need one for each further layer')
  for name, numbers, least in zip(names, upper, (1, 1, 0), strict=True):
    if any(not isinstance(n, int) or n < least for n in numbers):
      raise UserError(
          f'--config.model.upper_{name} is {numbers}; it must hold whole numbers from {least} on')
  strides = (flat['model.stride'], *upper[2])
  if 0 in strides and any(strides[strides.index(0) :]):
    raise UserError(
        f'--config.model.upper_strides is {upper[2]}: above a fully connected layer (0) there can '
        'be only fully connected ones')


def get_config(workdir):
  """The configuration stored in a workdir: `--config=conv_draw/config.py:WORKDIR`."""
  return load(workdir)


def load(workdir):
  """Reads `config.json`; `UserError` if there is none, or one that `check` refuses."""
  path = os.path.join(workdir, 'config.json')
  try:
    with open(path) as f:
      config = config_dict.ConfigDict(dict(_tuples(json.load(f)))).lock()
  except FileNotFoundError:
    raise UserError(
        f'{path} does not exist: train first (python launch.py --config=FILE '
        f'--workdir={workdir}), or name the workdir of a trained run') from None
  except (OSError, TypeError, ValueError) as e:
    raise UserError(f'{path} is not readable ({e}): restore it, or start a new workdir') from None
  check(config)
  return config


def store(config, workdir):
  """Writes `config.json`, whole or not at all."""
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, 'config.json')
  with open(path + '.tmp', 'w') as f:
    f.write(config.to_json(indent=2) + '\n')
  os.replace(path + '.tmp', path)


def differences(stored, config):
  """Keys, dotted, whose values differ between two configurations."""
  old, new = _flat(stored.to_dict()), _flat(config.to_dict())
  return sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))


def check_continues(config, workdir):
  """Raises `UserError` if the workdir was written with settings that do not go with `config`."""
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return
  stored = load(workdir)
  changed = [k for k in differences(stored, config) if not k.startswith(MAY_CHANGE)]
  if changed:
    key = changed[0]
    old, new = (_flat(c.to_dict()).get(key) for c in (stored, config))
    more = f' and {len(changed) - 1} more' if len(changed) > 1 else ''
    raise UserError(
        f'{workdir} was written with another config ({key} was {old!r}, is {new!r}{more}): '
        'use another --workdir, or the settings in its config.json')


def _tuples(tree):
  """JSON has no tuples: its lists are theirs."""
  if isinstance(tree, dict):
    return {key: _tuples(value) for key, value in tree.items()}
  return tuple(tree) if isinstance(tree, list) else tree


def _flat(tree, prefix=''):
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat.update(_flat(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = value
  return flat

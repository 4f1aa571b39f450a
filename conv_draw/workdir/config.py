"""The experiment's configuration as the workdir stores it; settings.py says what it consists of."""

import json
import math
import os

from ml_collections import config_dict

from conv_draw.errors import UserError, reason
from conv_draw.machine.files import write_file
from conv_draw.workdir import settings

LINEAR_STEPS = 4  # iterations that linear paths need: more than `linear_paths.TURNS`


def check(config):
  """Raises `UserError` for the first setting whose value makes no sense."""
  flat = _flat(config.to_dict())
  for setting in settings.SETTINGS:
    if setting.key not in flat:
      raise UserError(
          f'the config has no setting {setting.key}: it was written by another version of this '
          'program; add the setting, as conv_draw/workdir/settings.py has it')
  for setting in settings.SETTINGS:
    _check_one(setting, flat[setting.key])
  local = flat['model.likelihood'] == 'local'
  key = 'model.local_canvas' if local else 'model.likelihood'
  if (flat[key] == 'bernoulli') != (flat['data.name'] == 'omniglot'):
    raise UserError(
        f'--config.{key}={flat[key]} does not go with --config.data.name={flat["data.name"]}: '
        'bernoulli is for omniglot, the others for the rest')
  _check_local(flat, local)
  _check_codecs(flat, local, flat[key])
  _check_upper(flat)
  if flat['model.kind'] == 'vae' and flat['model.posterior'] != 'gaussian':
    raise UserError('--config.model.posterior can only be gaussian with --config.model.kind=vae')


def _check_local(flat, local):
  """What only local pixels have is left alone without them."""
  draws = flat['model.kind'] == 'draw'
  if draws and not flat['model.steps'] and not local:
    raise UserError(
        '--config.model.steps=0, no latents, is of local pixels: give --config.model.likelihood='
        'local too')
  latents = local and (flat['model.steps'] or not draws)
  if flat['objective.auxiliary'] and not latents:
    raise UserError('--config.objective.auxiliary weighs the canvas that local pixels see: there '
                    'is none; leave it at 0')
  part = flat['train.part']
  if part in ('head', 'draw') and not latents:
    raise UserError(f'--config.train.part={part} is of local pixels that see a canvas: there is '
                    'none; leave it at all')
  if part == 'restoration' and not flat['model.restoration']:
    raise UserError('--config.train.part=restoration needs --config.model.restoration: it is 0')
  numbers = flat['model.local_numbers']
  if numbers != 'real':
    if not local or flat['model.local_position']:
      raise UserError(
          f'--config.model.local_numbers={numbers} is of local pixels: give '
          '--config.model.likelihood=local, and no local_position')
    if flat['model.local_canvas'] == 'bernoulli':
      raise UserError(f'--config.model.local_numbers={numbers} is of pixels of 256 values: leave '
                      'it at real')
    if not flat['objective.pixels']:
      raise UserError(f'--config.model.local_numbers={numbers} learns from pixels drawn at random: '
                      'give --config.objective.pixels')
  if flat['train.optimizer'] == 'muon' and not draws:
    raise UserError('--config.train.optimizer=muon is not of --config.model.kind=vae: leave it at '
                    'adam')


def _check_codecs(flat, local, likelihood):
  """What serves codecs goes together."""
  posterior, stride, kernel = (
      flat[f'model.{name}'] for name in ('posterior', 'stride', 'image_kernel'))
  draws = flat['model.kind'] == 'draw' and flat['model.steps'] > 0
  if kernel and kernel % 2 == 0 and kernel != stride or kernel and not (draws and stride):
    raise UserError(
        f'--config.model.image_kernel is {kernel}; with model.stride={stride} it can be odd, or '
        f'{stride or 1}, and is of model.kind=draw')
  if flat['data.contrast'] > 1 and likelihood == 'bernoulli':
    raise UserError('--config.data.contrast is of grey values: leave it at 1 with pixels of two')
  if flat['model.encoder_features'] and not draws:
    raise UserError('--config.model.encoder_features is of --config.model.kind=draw')
  if flat['model.price'] and posterior != 'rounded':
    raise UserError('--config.model.price is of --config.model.posterior=rounded')
  if flat['model.bin_width'] and posterior not in ('rounded', 'uniform'):
    raise UserError('--config.model.bin_width is of --config.model.posterior=rounded or uniform')
  if flat['model.gain'] and (posterior not in ('rounded', 'uniform') or flat['model.linear_paths']):
    raise UserError('--config.model.gain is of --config.model.posterior=rounded or uniform, '
                    'without linear_paths, which have their own')
  if flat['objective.kl_warmup_steps'] and flat['objective.bound'] != 'elbo':
    raise UserError('--config.objective.kl_warmup_steps is of --config.objective.bound=elbo')
  if flat['model.linear_paths']:
    if not draws or not stride or flat['model.steps'] < LINEAR_STEPS:
      raise UserError('--config.model.linear_paths needs cells and iterations: --config.model.kind='
                      f'draw, stride at least 1 and steps at least {LINEAR_STEPS}')
    if posterior not in ('rounded', 'uniform') or likelihood not in ('gaussian', 'squared_error'):
      raise UserError('--config.model.linear_paths goes with --config.model.likelihood=gaussian or '
                      'squared_error and --config.model.posterior=rounded or uniform')
  if flat['model.restoration'] and not (
      flat['model.linear_paths'] and likelihood == 'squared_error' and
      flat['objective.progressive']):
    raise UserError('--config.model.restoration goes with --config.model.linear_paths, '
                    'likelihood=squared_error and objective.progressive')
  o = 'objective.'
  if flat[o + 'progressive'] and (
      not draws or local or flat[o + 'bound'] != 'elbo' or flat[o + 'samples'] != 1):
    raise UserError('--config.objective.progressive is of --config.model.kind=draw without local '
                    'pixels, with objective.bound=elbo and objective.samples=1')


def is_binary(config):
  """Whether pixels have two values, and likelihoods are given in nats."""
  m = config.model
  return (m.local_canvas if m.likelihood == 'local' else m.likelihood) == 'bernoulli'


def _check_one(setting, value):
  """A value keeps the rule of its setting."""
  key, rule = setting.key, setting.rule
  if isinstance(rule, tuple):
    if value not in rule:
      raise UserError(f'--config.{key} is {value!r}; it can be ' + ' or '.join(rule))
    return
  if rule == settings.ANY:
    return
  if isinstance(value, int) and value >= settings.TOO_LARGE:
    raise UserError(f'--config.{key} is {value}; it must be below {settings.TOO_LARGE}')
  if not isinstance(value, int | float) or not math.isfinite(value):
    raise UserError(f'--config.{key} is {value!r}; it must be a number')
  if rule == settings.AT_LEAST_1:
    kept = value >= 1
  elif rule == settings.NOT_NEGATIVE:
    kept = value >= 0
  elif rule == settings.FRACTION:
    kept = 0 <= value < 1
  else:
    kept = value >= 1 and value % 2 == 1
  if not kept:
    raise UserError(f'--config.{key} is {value}; it must be {rule}')


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
  """The configuration stored in a workdir: `--config=conv_draw/workdir/config.py:WORKDIR`."""
  return load(workdir)


def load(workdir):
  """Reads `config.json`; `UserError` if there is none, or one that `check` refuses."""
  path = os.path.join(workdir, 'config.json')
  try:
    with open(path) as f:
      stored = dict(_tuples(json.load(f)))
    # What was not yet a setting when this was written was as its default is.
    for setting in settings.SETTINGS:
      section, name = setting.key.split('.')
      if section in stored:
        stored[section].setdefault(name, setting.default)
    config = config_dict.ConfigDict(stored).lock()
  except FileNotFoundError:
    raise UserError(
        f'{path} does not exist: train first (python launch.py --config=FILE '
        f'--workdir={workdir}), or name the workdir of a trained run') from None
  except (OSError, AttributeError, TypeError, ValueError) as e:
    raise UserError(
        f'{path} is not readable ({reason(e)}): restore it, or start a new workdir') from None
  check(config)
  return config


def store(config, workdir):
  """Writes `config.json`, whole or not at all."""
  os.makedirs(workdir, exist_ok=True)
  write_file(os.path.join(workdir, 'config.json'), config.to_json(indent=2) + '\n')


def differences(stored, config):
  """Keys, dotted, whose values differ between two configurations."""
  old, new = _flat(stored.to_dict()), _flat(config.to_dict())
  return sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))


def changes(config, workdir):
  """{key: [what it is in the workdir's config.json, what it is now]} of those that differ."""
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return {}
  stored = load(workdir)
  old, new = _flat(stored.to_dict()), _flat(config.to_dict())
  return {key: [old.get(key), new.get(key)] for key in differences(stored, config)}


def check_continues(config, workdir):
  """Raises `UserError` if the workdir was written with settings that do not go with `config`."""
  changed = {k: values for k, values in changes(config, workdir).items() if not _may_change(k)}
  if changed:
    key, (old, new) = next(iter(changed.items()))
    more = f' and {len(changed) - 1} more' if len(changed) > 1 else ''
    raise UserError(
        f'{workdir} was written with another config ({key} was {old!r}, is {new!r}{more}): '
        'use another --workdir, or the settings in its config.json')


def _may_change(key):
  """Whether a run may be continued with another value of a setting.

  One of another version, which the table lacks, is taken for the others of its section.
  """
  section = key.split('.')[0] + '.'
  rows = [s for s in settings.SETTINGS if s.key == key] or [
      s for s in settings.SETTINGS if s.key.startswith(section)]
  return bool(rows) and all(s.may_change != settings.STAYS for s in rows)


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

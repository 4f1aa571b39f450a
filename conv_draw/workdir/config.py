"""The experiment's configuration as the workdir stores it; settings.py says what it consists of."""

import json
import math
import os

from conv_draw.errors import UserError, reason
from conv_draw.machine.files import write_file
from conv_draw.workdir import moved, settings
from conv_draw.workdir.moved import Config

PROGRESSIVE_STEPS = 4  # iterations that a progressive model needs
# Settings that a `model.kind` leaves no choice about.
FIXED = {
    'vae': {'model.posterior': 'gaussian', 'train.optimizer': 'adam'},
    'progressive': {
        'model.posterior': 'rounded', 'model.likelihood': 'gaussian', 'model.bin_width': 0.0,
        'model.gain': 0.0, 'model.upper_features': (), 'objective.bound': 'elbo',
        'objective.samples': 1, 'objective.kl_warmup_steps': 0},
}


def defaults():
  """Every setting of `model.kind=draw` at its default."""
  sections = {}
  for setting in settings.of('draw'):
    section, name = setting.key.split('.')
    sections.setdefault(section, {})[name] = setting.default
  return _of_sections(sections)


def set_kind(config, kind):
  """Changes `model.kind`; the section of the new kind, at its defaults, replaces the old kind's."""
  config.model.kind = kind
  with config.unlocked():
    for section in set(settings.KINDS) & set(config):
      del config[section]
    if kind in settings.KINDS:
      config[kind] = Config({s.key.split('.')[1]: s.default for s in settings.of(kind)
                             if s.key.startswith(f'{kind}.')})


def _of_sections(sections):
  """The locked `Config` of a dict of dicts."""
  return Config({name: Config(section) if isinstance(section, dict) else section
                 for name, section in sections.items()}).lock()


def check(config):
  """Raises `UserError` for the first setting whose value makes no sense."""
  flat = _flat(config.to_dict())
  kind = flat.get('model.kind')
  for section in settings.KINDS:
    if (section in config) != (section == kind):
      raise UserError(
          f'--config.model.kind={kind} {"needs" if section == kind else "does not go with"} a '
          f'section config.{section}: choose an experiment of that kind')
  for setting in settings.of(kind):
    if setting.key not in flat:
      raise UserError(
          f'the config has no setting {setting.key}: it was written by another version of this '
          'program; add the setting, as conv_draw/workdir/settings.py has it')
  for setting in settings.of(kind):
    _check_one(setting, flat[setting.key])
  _check_upper(flat)
  for key, wrong, rule in _together(config):
    if wrong:
      raise UserError(f'--config.{key} is {flat[key]!r}; it must be {rule}')


def _together(config):
  """Yields (key, whether its value does not go with other settings, what it must be)."""
  kind, m, o = config.model.kind, config.model, config.objective
  binary, quantised = m.likelihood == 'bernoulli', m.posterior in ('rounded', 'uniform')
  parts = ['all', 'decoder']
  for key, value in FIXED.get(kind, {}).items():
    yield key, config[key] != value, f'{value} with model.kind={kind}'
  yield ('model.likelihood', binary != (config.data.name == 'omniglot'),
         f'bernoulli for omniglot alone, and data.name is {config.data.name}')
  yield 'data.contrast', binary and config.data.contrast > 1, '1 for binary pixels'
  yield 'model.steps', kind == 'draw' and not m.steps, 'above 0 unless model.kind=local'
  for key in ('model.bin_width', 'model.gain'):
    yield key, config[key] and not quantised, '0 unless model.posterior=rounded or uniform'
  yield 'objective.kl_warmup_steps', o.kl_warmup_steps and o.bound != 'elbo', '0 with bound=iwae'
  if kind == 'local':
    x, parts = config.local, parts + ['head', 'draw'] * (m.steps > 0)
    yield 'local.auxiliary', x.auxiliary and not m.steps, '0 with model.steps=0'
    yield ('local.numbers', x.numbers != 'real' and (
        binary or x.position or not x.pixels or m.steps),
           'real with binary pixels, local.position, local.pixels=0 or model.steps above 0')
  if kind == 'progressive':
    x, parts = config.progressive, parts + ['post_filter'] * (config.progressive.post_filter > 0)
    yield 'model.stride', not m.stride, f'at least 1 with model.kind={kind}'
    yield 'model.steps', m.steps < PROGRESSIVE_STEPS, f'at least {PROGRESSIVE_STEPS}'
    yield ('progressive.image_kernel', x.image_kernel % 2 == 0 and
           x.image_kernel not in (0, m.stride), f'odd, or model.stride={m.stride}')
  yield 'train.part', config.train.part not in parts, ' or '.join(parts)


def is_binary(config):
  """Whether pixels have two values, and likelihoods are given in nats."""
  return config.model.likelihood == 'bernoulli'


def _check_one(setting, value):
  """A value keeps the rule of its setting."""
  key, rule = setting.key, setting.rule
  if isinstance(rule, tuple):
    if value not in rule:
      raise UserError(f'--config.{key} is {value!r}; it ' + (
          f'is {moved.VALUES[value]} now' if value in moved.VALUES else
          'can be ' + ' or '.join(rule)))
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
  elif rule == settings.POSITIVE:
    kept = value > 0
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
  """Reads `config.json` of any age; `UserError` if there is none, or one that `check` refuses."""
  path = os.path.join(workdir, 'config.json')
  try:
    with open(path) as f:
      stored = dict(_tuples(json.load(f)))
    moved.migrate(stored)
    # What was not yet a setting when this was written was as its default is.
    for setting in settings.of(stored.get('model', {}).get('kind')):
      section, name = setting.key.split('.')
      if section in stored:
        stored[section].setdefault(name, setting.default)
    config = _of_sections(stored)
  except UserError as e:
    raise UserError(f'{path}: {e}; an earlier version of this program reads it') from None
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
  changed = {k: values for k, values in changes(config, workdir).items() if not may_change(k)}
  if changed:
    key, (old, new) = next(iter(changed.items()))
    more = f' and {len(changed) - 1} more' if len(changed) > 1 else ''
    raise UserError(
        f'{workdir} was written with another config ({key} was {old!r}, is {new!r}{more}): '
        'use another --workdir, or the settings in its config.json')


def may_change(key):
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

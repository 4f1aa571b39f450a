"""The configuration of an experiment: defaults, checks, and config.json; see settings.py."""

import json
import math
import os
from typing import Any

from conv_draw.errors import UserError, reason
from conv_draw.machine.files import write_file
from conv_draw.workdir import moved, settings
from conv_draw.workdir.moved import Config

PROGRESSIVE_STEPS = 4  # the least number of iterations of a progressive model
# The only valid values of some settings with a `model.kind`.
FIXED = {
    'vae': {'model.posterior': 'gaussian', 'train.optimizer': 'adam'},
    'progressive': {
        'model.posterior': 'rounded', 'model.likelihood': 'gaussian', 'model.bin_width': 0.0,
        'model.gain': 0.0, 'model.upper_features': (), 'objective.bound': 'elbo',
        'objective.samples': 1, 'objective.kl_warmup_steps': 0},
}


def defaults() -> Config:
  """Every setting of `model.kind=draw` at its default."""
  sections = {}
  for setting in settings.of('draw'):
    section, name = setting.key.split('.')
    sections.setdefault(section, {})[name] = setting.default
  return _of_sections(sections)


def set_kind(config: Config, kind: str) -> None:
  """Changes `model.kind` and replaces the old kind's section by the new kind's at its defaults."""
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


def check(config: Config) -> None:
  """Raises `UserError` for the first setting with an invalid value."""
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
  """Yields (key, whether its value contradicts other settings, what it must be)."""
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
    yield ('model.likelihood', m.likelihood == 'squared_error',
           'gaussian, logistic_mixture or bernoulli with model.kind=local')
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


def is_binary(config: Config) -> bool:
  """Whether pixels have two values; then likelihoods are reported in nats."""
  return config.model.likelihood == 'bernoulli'


def _check_one(setting, value):
  """Raises `UserError` if a value breaks the rule of its setting."""
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
  kept = {
      settings.AT_LEAST_1: value >= 1, settings.NOT_NEGATIVE: value >= 0,
      settings.POSITIVE: value > 0, settings.FRACTION: 0 <= value < 1,
      settings.ODD: value >= 1 and value % 2 == 1}
  if not kept[rule]:
    raise UserError(f'--config.{key} is {value}; it must be {rule}')


def _check_upper(flat):
  """Raises `UserError` if the settings of the layers above the first contradict each other."""
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


def get_config(workdir: str) -> Config:
  """The stored configuration, for `--config=conv_draw/workdir/config.py:WORKDIR`."""
  return load(workdir)


def load(workdir: str) -> Config:
  """The configuration in a workdir's `config.json`, also of earlier versions.

  Raises:
    UserError: the file is missing, unreadable or invalid.
  """
  path = os.path.join(workdir, 'config.json')
  try:
    with open(path) as f:
      stored = dict(_tuples(json.load(f)))
    moved.migrate(stored)
    # Settings that the version which wrote the file lacked behave as their defaults.
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


def store(config: Config, workdir: str) -> None:
  """Writes `config.json` atomically."""
  os.makedirs(workdir, exist_ok=True)
  write_file(os.path.join(workdir, 'config.json'), config.to_json(indent=2) + '\n')


def differences(stored: Config, config: Config) -> dict[str, list[Any]]:
  """{dotted key: [stored value, value in `config`]} of the settings that differ."""
  old, new = _flat(stored.to_dict()), _flat(config.to_dict())
  return {key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys())
          if old.get(key) != new.get(key)}


def changes(config: Config, workdir: str) -> dict[str, list[Any]]:
  """`differences` from a workdir's config.json; empty without that file."""
  exists = os.path.exists(os.path.join(workdir, 'config.json'))
  return differences(load(workdir), config) if exists else {}


def check_continues(config: Config, workdir: str) -> None:
  """Raises `UserError` if a setting differs that a run must keep."""
  changed = {k: values for k, values in changes(config, workdir).items() if not may_change(k)}
  if changed:
    key, (old, new) = next(iter(changed.items()))
    more = f' and {len(changed) - 1} more' if len(changed) > 1 else ''
    raise UserError(
        f'{workdir} was written with another config ({key} was {old!r}, is {new!r}{more}): '
        'use another --workdir, or the settings in its config.json')


def may_change(key: str) -> bool:
  """Whether a run may be continued with another value of a setting.

  A setting of another version follows the rule of the settings of its section.
  """
  section = key.split('.')[0] + '.'
  rows = [s for s in settings.SETTINGS if s.key == key] or [
      s for s in settings.SETTINGS if s.key.startswith(section)]
  return bool(rows) and all(s.may_change != settings.STAYS for s in rows)


def _tuples(tree):
  """`tree` with tuples for lists, which JSON stores tuples as."""
  if isinstance(tree, dict):
    return {key: _tuples(value) for key, value in tree.items()}
  return tuple(tree) if isinstance(tree, list) else tree


def _flat(tree, prefix=''):
  """{dotted key: value} of nested dicts."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat.update(_flat(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = value
  return flat

"""The experiment's configuration as the workdir stores it."""

import json
import os

from ml_collections import config_dict

from conv_draw.errors import UserError

# A run may be continued with these changed: they do not touch what has been computed.
MAY_CHANGE = (
    'data.data_dir', 'train.steps', 'train.log_every', 'train.checkpoint_every',
    'train.evaluate_every', 'evaluate.', 'figures.', 'spikes.')


def get_config(workdir):
  """The configuration stored in a workdir: `--config=conv_draw/config.py:WORKDIR`."""
  return load(workdir)


def load(workdir):
  """Reads `config.json`; `UserError` if there is none."""
  path = os.path.join(workdir, 'config.json')
  try:
    with open(path) as f:
      return config_dict.ConfigDict(json.load(f))
  except FileNotFoundError:
    raise UserError(
        f'{path} does not exist: train first (python launch.py --config=FILE '
        f'--workdir={workdir}), or name the workdir of a trained run') from None
  except (OSError, ValueError) as e:
    raise UserError(f'{path} is not readable ({e}): restore it, or start a new workdir') from None


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


def _flat(tree, prefix=''):
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat.update(_flat(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = value
  return flat

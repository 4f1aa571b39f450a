"""Settings of earlier versions: the new place of each, for old config.json files and commands."""

from typing import Any

from ml_collections import config_dict

from conv_draw.errors import UserError
from conv_draw.workdir import settings

# Old key -> new key; '' if the setting was removed.
MOVED = {
    'model.local_canvas': 'model.likelihood',
    'model.local_horizon': 'local.horizon',
    'model.local_features': 'local.features',
    'model.local_layers': 'local.layers',
    'model.local_position': 'local.position',
    'model.local_numbers': 'local.numbers',
    'model.local_dtype': 'local.dtype',
    'objective.pixels': 'local.pixels',
    'objective.auxiliary': 'local.auxiliary',
    'figures.pixels': 'local.figures',
    'model.linear_paths': 'model.kind',
    'model.price': 'progressive.lmbda',
    'model.restoration': 'progressive.post_filter',
    'model.image_kernel': 'progressive.image_kernel',
    'model.encoder_features': '',
    'objective.progressive': 'progressive.first_beta',
}
# Those of them that models of other kinds than progressive no longer support.
GONE = ('model.linear_paths', 'model.price', 'model.image_kernel', 'model.encoder_features',
        'objective.progressive')

# Old values -> the settings that replace them.
VALUES = {'local': 'model.kind=local', 'restoration': 'train.part=post_filter'}


class Config(config_dict.ConfigDict):
  """A configuration or a section of it, which names the new place of a moved setting.

  Command lines, sweeps and experiment files all access settings by these methods.
  """

  def __getitem__(self, key):
    self._refuse_moved(key)
    return super().__getitem__(key)

  def __setitem__(self, key, value):
    if self.is_locked:
      self._refuse_moved(key)
    super().__setitem__(key, value)

  def get_type(self, key):
    self._refuse_moved(key)
    return super().get_type(key)

  def _refuse_moved(self, name):
    """Raises `UserError` if this config lacks a setting or section that moved to another."""
    if name in self:
      return
    if 'model' in self:  # the whole configuration
      places = [f'config.{name} is a section of {_experiments(name)}'
                ] if name in settings.KINDS else []
    else:
      places = [_place(old, new) for old, new in MOVED.items() if old.partition('.')[2] == name]
    if places:
      raise UserError('; '.join(places))


def _place(old, new):
  """The message about a moved setting."""
  if not new:
    return f'config.{old} is gone: leave it out'
  section = new.partition('.')[0]
  if new == 'model.kind':
    return f'config.{old} is what {_experiments("progressive")} have now'
  return f'config.{old} is config.{new} now' + (
      f', in {_experiments(section)}' if section in settings.KINDS else '')


def _experiments(kind):
  return f'experiments with model.kind={kind}'


def migrate(stored: dict[str, Any]) -> None:
  """Converts the content of a config.json, a dict of sections, to the present settings in place.

  Raises:
    UserError: this version does not have the model.
  """
  old = {key: stored[section].pop(name) for key in MOVED for section, name in [key.split('.')]
         if name in stored.get(section, {})}
  model, train = stored.get('model', {}), stored.get('train', {})
  if model.get('likelihood') == 'local':
    if model.get('kind') == 'vae':
      raise UserError('there are no local pixels above a VAE any more')
    model.update(kind='local', likelihood=old.get('model.local_canvas', 'gaussian'))
    stored['local'] = {'mixtures': model['mixtures']} if 'mixtures' in model else {}
  elif old.get('model.linear_paths') and model.get('likelihood') == 'squared_error':
    model.update(kind='progressive', likelihood='gaussian')
    stored['progressive'] = {}
  kind = model.get('kind')
  gone = [key for key in GONE if old.get(key) and kind != 'progressive']
  if gone:
    raise UserError(f'there is no {gone[0]} with model.kind={kind} any more')
  for key, new in MOVED.items():
    section, _, name = new.partition('.')
    if key in old and section in settings.KINDS and section == kind:
      stored[section][name] = old[key]
  if train.get('part') == 'restoration':
    train['part'] = 'post_filter'

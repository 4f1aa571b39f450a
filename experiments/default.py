"""Every setting at its default: the table in conv_draw/workdir/settings.py says what each one is.

The other experiments change only what differs. Not an experiment itself: it trains nothing that the
paper reports. Start from digits.py.
"""

from ml_collections import config_dict

from conv_draw.workdir import settings


def get_config():
  sections = {}
  for setting in settings.SETTINGS:
    section, name = setting.key.split('.')
    sections.setdefault(section, {})[name] = setting.default
  return config_dict.ConfigDict(sections).lock()

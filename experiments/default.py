"""The default of every setting; conv_draw/workdir/settings.py documents the settings.

The other experiments change some of these settings. Those of a model beyond the paper add the
section of settings of its kind (`config.set_kind`). This file is not an experiment itself: start
from digits.py.
"""

from conv_draw.workdir import config as config_lib


def get_config():
  return config_lib.defaults()

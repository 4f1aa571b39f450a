"""Every setting at its default: the table in conv_draw/workdir/settings.py says what each one is.

The other experiments change only what differs; those of a kind of model beyond the paper add its
section of settings (`config.set_kind`). Not an experiment itself: it trains nothing that the paper
reports. Start from digits.py.
"""

from conv_draw.workdir import config as config_lib


def get_config():
  return config_lib.defaults()

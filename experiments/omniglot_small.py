"""Omniglot on CPU cores: the paper's model, smaller.

  python launch.py --config=experiments/omniglot_small.py

T = 6 and 24 LSTM maps for the paper's 32 and 160; a higher learning rate with cosine decay, batches
of 32 and averaged parameters. One CPU core, 75 minutes at 86 images/s: < 105.47 nats on the test
split.
"""

from conv_draw import sweeps
from experiments import omniglot


def get_config():
  config = omniglot.get_config()
  config.model.features = 24
  config.model.steps = 6
  config.train.steps = 12_000
  config.train.batch_size = 32
  config.train.learning_rate = 2e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.999
  return config


def get_sweep():
  return sweeps.over_beta()

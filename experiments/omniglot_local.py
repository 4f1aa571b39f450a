"""Omniglot 28x28, binarised, the local autoregressive model without latents: 220 neighbours.

  python launch.py --config=experiments/omniglot_local.py

Beyond the paper. 91.55 nats on the test split (all images, exact) after 27 minutes on one CPU core
with matrix units (AMX), beside other work: 263,937 parameters. With context radius 8 and 6,000
steps: 92.18; with radius 6 and without pixel positions as inputs: 93.91 (first 2,000 images).
"""

from conv_draw.workdir.config import set_kind
from experiments import omniglot


def get_config():
  config = omniglot.get_config()
  config.model.steps = 0
  set_kind(config, 'local')
  config.local.horizon = 10
  config.local.features = 256
  config.local.layers = 3
  config.local.position = True
  config.local.dtype = 'bfloat16'
  config.train.optimizer = 'muon'
  config.train.steps = 13_000
  config.train.batch_size = 128
  config.train.learning_rate = 6e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.998
  return config

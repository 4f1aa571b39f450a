"""CIFAR-10, the local autoregressive model without latents: each pixel given 40 neighbours.

  python launch.py --config=experiments/cifar10_local.py

Beyond the paper. 3.310 bits/dim on the test split (all images, exact) after 80 minutes on one CPU
core with matrix units (AMX), beside other work: 245,298 parameters, 40,000 steps of 64 pixels of
128 images. A smaller model trains faster: context radius 3, 160 units and 2 layers have 3.378
(first 1,000 images) after 4 minutes.
"""

from conv_draw.workdir.config import set_kind
from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.data.flips = True
  config.model.steps = 0
  set_kind(config, 'local')
  config.local.horizon = 4
  config.local.features = 256
  config.local.layers = 3
  config.local.dtype = 'bfloat16'
  config.train.optimizer = 'muon'
  config.train.batch_size = 128
  config.train.learning_rate = 6e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.998
  config.train.steps = 40_000
  return config

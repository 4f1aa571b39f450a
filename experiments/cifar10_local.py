"""CIFAR-10, local pixels alone: no latents, a small network that sees neighbouring pixels.

  python launch.py --config=experiments/cifar10_local.py
"""

from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.data.flips = True
  config.model.likelihood = 'local'
  config.model.steps = 0
  config.model.local_horizon = 4
  config.model.local_features = 256
  config.model.local_layers = 3
  config.model.local_dtype = 'bfloat16'
  config.train.optimizer = 'muon'
  config.train.batch_size = 128
  config.train.learning_rate = 6e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.998
  config.train.steps = 40_000
  return config

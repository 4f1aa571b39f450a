"""CIFAR-10, a small model for the codec: two CPU cores train it in the time of a lunch break.

  python launch.py --config=experiments/cifar10_codec.py --workdir=runs/wide
  python launch.py --config=experiments/cifar10_codec.py --workdir=runs/bins \\
      --config.model.posterior=uniform --config.train.start_from=runs/wide
"""

from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.model.features = 32
  config.model.steps = 8
  config.model.stride = 4
  config.model.posterior = 'constant'
  config.train.steps = 16_000
  config.train.batch_size = 16
  config.train.learning_rate = 1e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.999
  return config

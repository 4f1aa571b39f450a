"""CIFAR-10 beyond the paper: convolutional DRAW with discretised logistic mixtures as pixels.

  python launch.py --config=experiments/cifar10_plus.py

As cifar10.py, with mixtures of 5 components conditioned on a pixel's earlier channels,
learning-rate warm-up and decay, and averaged parameters. Not yet run at full size.
"""

from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.model.likelihood = 'logistic_mixture'
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 1000
  config.train.ema_decay = 0.9995
  return config

"""CIFAR-10: convolutional DRAW whose canvas feeds local pixels, for CPU cores.

  python launch.py --config=experiments/cifar10_local_draw.py \\
      --config.train.start_from=conv_draw/pretrained/cifar10

Beyond the paper; not yet run.
"""

from experiments import cifar10_small


def get_config():
  config = cifar10_small.get_config()
  config.data.flips = True
  config.model.likelihood = 'local'
  config.model.local_dtype = 'bfloat16'
  config.objective.pixels = 256
  config.objective.auxiliary = 0.1
  config.train.optimizer = 'muon'
  config.train.steps = 8000
  config.train.learning_rate = 1e-3
  return config


def get_sweep():
  """What latents cost: the larger the auxiliary weight, the more they hold."""
  return [{'objective.auxiliary': weight} for weight in (0.0, 0.02, 0.05, 0.1, 0.2)]

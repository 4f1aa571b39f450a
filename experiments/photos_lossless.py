"""Photographs, local pixels alone in whole numbers: for lossless files that decode everywhere.

  python launch.py --config=experiments/photos_lossless.py --config.data.data_dir=FOLDER \\
      --workdir=runs/photos_ranged
  python launch.py --config=experiments/photos_lossless.py --config.data.data_dir=FOLDER \\
      --config.model.local_numbers=whole --config.train.start_from=runs/photos_ranged \\
      --config.train.learning_rate=1e-3 --config.train.steps=4000

Beyond the paper, and in progress. The first run has the network's real numbers, in the ranges of
the whole ones that the second rounds them to. Each step learns from 64 pixels of each of 128 crops.
"""

from experiments import cifar10_local


def get_config():
  config = cifar10_local.get_config()
  config.data.name = 'folder'
  config.data.crop = 64
  config.model.local_numbers = 'ranged'
  config.model.local_horizon = 3
  config.model.local_features = 160
  config.model.local_layers = 2
  config.train.steps = 20_000
  return config

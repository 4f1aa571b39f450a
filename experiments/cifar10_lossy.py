"""CIFAR-10 at every rate from one file: convolutional DRAW as a progressive codec.

  python launch.py --config=experiments/cifar10_lossy.py

Beyond the paper: photos_lossy.py on 32x32 pixels. Not yet run.
"""

from experiments import photos_lossy


def get_config():
  config = photos_lossy.get_config()
  config.data.name = 'cifar10'
  config.data.crop = 0
  config.train.batch_size = 64
  return config

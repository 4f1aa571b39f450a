"""CIFAR-10: the paper's model (section 4, table 1: < 3.58 bits/dim on the test split).

  python launch.py --config=experiments/cifar10.py

Needs TFDS's cifar10 3.0.2 (--config.data.data_dir). Hardware: one or more data-centre GPUs or a
TPU; not yet run at full size. On two CPU cores take fewer maps and iterations:

  python launch.py --config=experiments/cifar10.py --workdir=runs/cifar10_small \\
      --config.model.features=32 --config.model.steps=8 --config.train.batch_size=16
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'cifar10'
  config.model.steps = 32
  config.model.features = 320
  config.model.latents = 12
  config.model.kernel = 5
  config.model.stride = 2
  config.train.learning_rate = 5e-4
  config.train.batch_size = 64
  config.train.steps = 250_000
  return config

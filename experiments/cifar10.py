"""CIFAR-10: the paper's model (section 4, table 1: < 3.58 bits/dim on the test split).

  python launch.py --config=experiments/cifar10.py

320 LSTM maps; T = 32, 5x5 kernels, stride 2, 12 latent maps, Adam at 5e-4 are the defaults. Needs
TFDS's cifar10 3.0.2 (--config.data.data_dir). Hardware: one or more data-centre GPUs or a TPU, with
--config.model.compute_dtype=bfloat16; not yet run at full size. For a CPU, smaller (two cores: 50
images/s; 300 steps in 3 minutes give 6.07 bits/dim on 1,000 test images, still falling steeply):

  python launch.py --config=experiments/cifar10.py --workdir=runs/cifar10_try \\
      --config.model.features=32 --config.model.steps=6 --config.train.batch_size=16 \\
      --config.train.learning_rate=1e-3 --config.train.steps=300 --config.evaluate.max_images=1000

Muon (--config.train.optimizer=muon, 1.5e-2) took small models to the loss of Adam in a third to an
eighth of the steps (cifar10_small.py; F = 24 and 32, T = 4). At this size it has not been tried.
"""

from conv_draw.workdir import sweeps
from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'cifar10'
  config.model.features = 320
  config.train.steps = 250_000
  return config


def get_sweep():
  return sweeps.over_beta()

"""CIFAR-10: the local autoregressive model on the canvas of convolutional DRAW, for CPU cores.

  python launch.py --config=experiments/cifar10_local_draw.py --workdir=runs/cifar10_local_first \\
      --config.train.start_from=conv_draw/pretrained/cifar10 --config.train.steps=8000 \\
      --config.train.learning_rate=1e-3 --config.local.auxiliary=0.1
  python launch.py --config=experiments/cifar10_local_draw.py \\
      --config.train.start_from=runs/cifar10_local_first

Beyond the paper. Bits/dim on the test split after each run, on one CPU core with matrix units
(AMX), beside other work: 3.619 (28 minutes; first 1,000 images), of which 0.649 are latents; 3.464
(32 minutes; all 10,000), of which 0.271 are latents. With an auxiliary weight of 0.02 in the second
run, latents had 0.034 after 1,000 steps.
"""

from conv_draw.workdir.config import set_kind
from experiments import cifar10_small


def get_config():
  config = cifar10_small.get_config()
  config.data.flips = True
  set_kind(config, 'local')
  config.local.dtype = 'bfloat16'
  config.local.pixels = 256
  config.local.auxiliary = 0.07
  config.train.optimizer = 'muon'
  config.train.steps = 9000
  config.train.learning_rate = 3e-3
  return config


def get_sweep():
  """The auxiliary weight, with which the information in latents increases."""
  return [{'local.auxiliary': weight} for weight in (0.0, 0.02, 0.05, 0.1, 0.2)]

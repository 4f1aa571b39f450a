"""CIFAR-10, the integer network without latents: lossless files that decode on every machine.

  python launch.py --config=experiments/cifar10_lossless.py

Beyond the paper. 16,000 steps take 30 minutes on one CPU core with matrix units (AMX), beside other
work. The results are in the model's card, conv_draw/pretrained/cifar10_lossless/README.md.
"""

from experiments import cifar10_local


def get_config():
  config = cifar10_local.get_config()
  config.local.numbers = 'whole'
  config.local.features = 192
  config.local.layers = 2
  config.train.steps = 16_000
  return config

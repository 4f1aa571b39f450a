"""CIFAR-10, a deep convolutional VAE without recurrence (table 1: < 4.54 bits/dim).

  python launch.py --config=experiments/cifar10_deep_vae.py

The paper does not describe its baseline. This model has three layers of latents, on maps of 16x16,
8x8 and 4x4, with three residual convolutions before and after each. Not yet run.
"""

from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.model.kind = 'vae'
  config.model.kernel = 3
  config.model.depth = 3
  config.model.features = 128
  config.model.latents = 24
  config.model.upper_features = (128, 128)
  config.model.upper_latents = (24, 24)
  config.model.upper_strides = (2, 2)
  config.train.learning_rate = 1e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 1000
  return config

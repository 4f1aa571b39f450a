"""CIFAR-10, a small model for the codec: two CPU cores train it in the time of a lunch break.

  python launch.py --config=experiments/cifar10_codec.py --workdir=runs/cifar10_wide
  python launch.py --config=experiments/cifar10_codec.py --workdir=runs/cifar10_bins \\
      --config.model.posterior=uniform --config.train.start_from=runs/cifar10_wide \\
      --config.train.steps=10000

The first stage learns the latents' widths as those of Gaussians, the second turns them into the
bins of dithered quantisation. Few latent maps, since every weak one pays for its rounding. On one
CPU core, about 100 images/s: 15 minutes, < 4.835 bits/dim on 2,000 test images, and 29 minutes,
< 4.909 on all 10,000.
"""

from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.model.features = 24
  config.model.latents = 4
  config.model.steps = 4
  config.model.posterior = 'constant'
  config.train.steps = 6000
  config.train.batch_size = 16
  config.train.learning_rate = 2e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.999
  return config

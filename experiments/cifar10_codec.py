"""CIFAR-10, a small model for the codec: a CPU trains it in two hours.

  python launch.py --config=experiments/cifar10_codec.py --workdir=runs/cifar10_wide
  python launch.py --config=experiments/cifar10_codec.py --workdir=runs/cifar10_bins \\
      --config.model.posterior=uniform --config.train.start_from=runs/cifar10_wide \\
      --config.train.steps=10000
  python launch.py --config=experiments/cifar10_codec.py --workdir=runs/cifar10_longer \\
      --config.model.posterior=uniform --config.train.start_from=runs/cifar10_bins \\
      --config.train.steps=28000

The first run trains Gaussian posteriors with an input-independent variance, the second continues
with dithered quantisation in steps of that variance, and the third trains longer. The model has few
latent maps, as quantisation makes maps with little information costly. Bits/dim on the test split
after each run, on one CPU core with about 100 images/s: < 4.835 (15 minutes; 2,000 images), < 4.909
(29 minutes), < 4.727 (84 minutes, beside other work).
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

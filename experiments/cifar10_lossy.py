"""CIFAR-10 at every rate from one file: a transform codec with convolutional DRAW's decoder.

  python launch.py --config=experiments/cifar10_lossy.py

Beyond the paper: photos_lossy.py for 32x32 pixels, with cells of 4x4. The published model,
conv_draw/pretrained/cifar10_lossy, was trained for 2,000 steps without the post-filter and for 500
steps of the post-filter alone; its card has the results. The command above trains both at once, of
which 40 steps were run (25.1 dB at 0.31 bits/dim, 28.5 dB at 0.51).
"""

from experiments import photos_lossy


def get_config():
  config = photos_lossy.get_config()
  config.data.name = 'cifar10'
  config.data.crop = 0
  config.data.contrast = 1.0
  config.model.stride = 4
  config.model.steps = 14
  config.model.latents = 16
  config.progressive.image_kernel = 0
  config.progressive.first_beta = 1 / 4000
  config.objective.beta = 1 / 10
  config.train.batch_size = 64
  config.train.learning_rate = 1e-3
  config.train.warmup_steps = 50
  config.train.steps = 2000
  return config

"""Omniglot 28x28, binarised: convolutional DRAW whose canvas feeds local pixels.

  python launch.py --config=experiments/omniglot_local_draw.py \\
      --config.train.start_from=conv_draw/pretrained/omniglot

Beyond the paper, and an experiment in progress: with --config.train.steps=400
--config.train.ema_decay=0.99, 99.77 nats on the first 2,000 test images, 35.8 of them in latents.
Longer training at 2e-3 lets these collapse, with h = 4 to 0.1 nats after 2,300 steps, at 93.29 nats
in all after 2,000.
"""

from experiments import omniglot_small


def get_config():
  config = omniglot_small.get_config()
  config.model.likelihood = 'local'
  config.model.local_canvas = 'bernoulli'
  config.model.local_horizon = 3
  config.model.local_features = 128
  config.model.local_dtype = 'bfloat16'
  config.objective.pixels = 256
  config.train.optimizer = 'muon'
  return config

"""Omniglot 28x28, binarised: convolutional DRAW whose canvas feeds local pixels.

  python launch.py --config=experiments/omniglot_local.py \\
      --config.train.start_from=conv_draw/pretrained/omniglot
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

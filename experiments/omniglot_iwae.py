"""Omniglot, the IWAE of table 1 (103.38 nats): omniglot_vae.py, importance weighted, 50 samples.

  python launch.py --config=experiments/omniglot_iwae.py

Not yet run.
"""

from experiments import omniglot_vae


def get_config():
  config = omniglot_vae.get_config()
  config.objective.bound = 'iwae'
  config.objective.samples = 50
  return config

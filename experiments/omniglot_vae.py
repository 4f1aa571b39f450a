"""Omniglot, the two-layer VAE of table 1 (106.31 nats): Burda et al. (2016), with 5 samples.

  python launch.py --config=experiments/omniglot_vae.py

2 x 200 hidden units and 100 latents, and above these 2 x 100 units and 50 latents. The paper quotes
Burda et al.'s estimate of -log p(x) with 5,000 importance samples, on their split. The same
estimate here:

  python launch.py --mode=evaluate --workdir=runs/omniglot_vae \\
      --config.evaluate.importance_samples=5000

Not yet run.
"""

from experiments import omniglot


def get_config():
  config = omniglot.get_config()
  config.model.kind = 'vae'
  config.model.stride = 0
  config.model.features = 200
  config.model.latents = 100
  config.model.upper_features = (100,)
  config.model.upper_latents = (50,)
  config.model.upper_strides = (0,)
  config.objective.samples = 5
  config.train.learning_rate = 1e-3
  config.train.schedule = 'cosine'
  return config

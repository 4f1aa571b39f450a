"""8x8 digits with a two-layer, fully connected VAE, that of table 1 for Omniglot (Burda et al.).

  python launch.py --config=experiments/digits_vae.py

Half a minute on two busy CPU cores: 2.602 +- 0.041 bits/dim on the test split, 2.430 with 100
importance samples.
"""

from experiments import digits


def get_config():
  config = digits.with_adam(digits.get_config())
  config.model.kind = 'vae'
  config.model.stride = 0
  config.model.features = 200
  config.model.latents = 50
  config.model.upper_features = (100,)
  config.model.upper_latents = (25,)
  config.model.upper_strides = (0,)
  return config

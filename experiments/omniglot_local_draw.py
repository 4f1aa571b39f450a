"""Omniglot 28x28, binarised: the local autoregressive model on the canvas of convolutional DRAW.

  python launch.py --config=experiments/omniglot_local_draw.py \\
      --config.train.start_from=conv_draw/pretrained/omniglot

Beyond the paper. 94.61 nats on all 8,115 test images, 14.08 of them in latents, after 5,000 steps
from the published model (102.06): 80 minutes on one CPU core, beside other work. Without latents,
the local autoregressive model has a better likelihood, 91.55 nats (omniglot_local.py). With a
learning rate of 2e-3, context radius 4 and no auxiliary cost the posterior collapsed: latents had
0.1 of 93.29 nats after 2,000 steps (first 2,000 test images).
"""

from conv_draw.workdir.config import set_kind
from experiments import omniglot_small


def get_config():
  config = omniglot_small.get_config()
  set_kind(config, 'local')
  config.local.position = True
  config.local.horizon = 8
  config.local.features = 256
  config.local.layers = 3
  config.local.dtype = 'bfloat16'
  config.local.pixels = 256
  config.local.auxiliary = 0.02
  config.train.optimizer = 'muon'
  config.train.learning_rate = 1e-3
  config.train.steps = 5000
  return config


def get_sweep():
  """What latents cost: the larger the auxiliary weight, the more they hold."""
  return [{'local.auxiliary': weight} for weight in (0.0, 0.02, 0.1, 0.3, 1.0)]

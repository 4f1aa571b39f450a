"""Omniglot, DRAW of table 1 (< 96.5 nats): fully connected recurrent cells, without attention.

  python launch.py --config=experiments/omniglot_draw.py

Sizes as Gregor et al. (2015) used on MNIST: 256 LSTM units, 100 latents, 64 iterations. Unlike
theirs the prior is learned and the decoder reads the canvas, as in the convolutional model. Not yet
run.
"""

from experiments import omniglot


def get_config():
  config = omniglot.get_config()
  config.model.stride = 0
  config.model.features = 256
  config.model.latents = 100
  config.model.steps = 64
  return config

"""Omniglot, DRAW of table 1 (< 96.5 nats): fully connected recurrent cells, without attention.

  python launch.py --config=experiments/omniglot_draw.py

The sizes are those of Gregor et al. (2015) for MNIST: 256 LSTM units, 100 latents, 64 iterations.
Unlike in their model, the prior is learned and the decoder reads the canvas, as in the
convolutional model. Not yet run.
"""

from experiments import omniglot


def get_config():
  config = omniglot.get_config()
  config.model.stride = 0
  config.model.features = 256
  config.model.latents = 100
  config.model.steps = 64
  return config

"""CIFAR-10, DRAW of table 1 (< 4.13 bits/dim): fully connected recurrent cells, without attention.

  python launch.py --config=experiments/cifar10_draw.py

The sizes are those of Gregor et al. (2015) for CIFAR-10: 400 LSTM units, 200 latents, 64
iterations. Unlike in their model, the prior is learned and the decoder reads the canvas. Not yet
run.
"""

from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.model.stride = 0
  config.model.features = 400
  config.model.latents = 200
  config.model.steps = 64
  return config

"""ImageNet 32x32 with the two layers of figure 2, convolutional below and fully connected above.

  python launch.py --config=experiments/imagenet_two_layer.py

The paper gives no sizes for the second layer; 256 LSTM units and 64 latents are this project's
choice. Data as for imagenet32.py. Hardware: several data-centre GPUs or a TPU; not yet run.
"""

from experiments import imagenet32


def get_config():
  config = imagenet32.get_config()
  config.model.upper_features = (256,)
  config.model.upper_latents = (64,)
  config.model.upper_strides = (0,)
  return config

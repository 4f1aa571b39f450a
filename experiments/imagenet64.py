"""ImageNet 64x64 (van den Oord et al., 2016): the paper's model (table 1: < 4.10 bits/dim).

  python launch.py --config=experiments/imagenet64.py

As imagenet32.py, with downsampled_imagenet/64x64 (`python -m conv_draw.prepare_imagenet` with
--size=64). Hardware: several data-centre GPUs or a TPU; not yet run. What Muon may save:
cifar10.py.
"""

from conv_draw.workdir import sweeps
from experiments import imagenet32


def get_config():
  config = imagenet32.get_config()
  config.data.name = 'imagenet64'
  return config


def get_sweep():
  return sweeps.over_beta()

"""ImageNet 32x32 (van den Oord et al., 2016): the paper's model (table 1: < 4.40 bits/dim).

  python launch.py --config=experiments/imagenet32.py

T = 32, 5x5 kernels, stride 2, 12 latent maps, 160 LSTM maps, Adam at 5e-4: the defaults. Needs
TFDS's downsampled_imagenet/32x32 2.0.0, which `python -m conv_draw.prepare_imagenet` builds from
the archives train_32x32.tar and valid_32x32.tar. Hardware: several data-centre GPUs or a TPU; not
yet run.
"""

from conv_draw.workdir import sweeps
from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'imagenet32'
  config.train.steps = 500_000
  return config


def get_sweep():
  return sweeps.over_beta()

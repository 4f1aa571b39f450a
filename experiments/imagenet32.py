"""ImageNet 32x32 (van den Oord et al., 2016): the paper's model (table 1: < 4.40 bits/dim).

  python launch.py --config=experiments/imagenet32.py

Needs TFDS's downsampled_imagenet/32x32 2.0.0, which `python -m conv_draw.prepare_imagenet`
builds from the archives train_32x32.tar and valid_32x32.tar. Hardware: several data-centre
GPUs or a TPU; not yet run at full size.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'imagenet32'
  config.model.steps = 32
  config.model.features = 160
  config.model.latents = 12
  config.model.kernel = 5
  config.model.stride = 2
  config.train.learning_rate = 5e-4
  config.train.batch_size = 64
  config.train.steps = 500_000
  return config

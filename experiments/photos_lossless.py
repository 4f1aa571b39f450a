"""Photographs, the integer network without latents: lossless files that decode on every machine.

  python launch.py --config=experiments/photos_lossless.py --config.data.data_dir=FOLDER \\
      --workdir=runs/photos_ranged
  python launch.py --config=experiments/photos_lossless.py --config.data.data_dir=FOLDER \\
      --workdir=runs/photos_lossless --config.local.numbers=whole \\
      --config.train.start_from=runs/photos_ranged --config.train.learning_rate=3e-3 \\
      --config.train.steps=12000

Beyond the paper. The first run is range-constrained pre-training in floats; the second trains the
integer network. FOLDER has photographs of several scales. The codec's model for photographs,
conv_draw/pretrained/photos_lossless, is the result of these runs; its card has the results.
"""

from experiments import cifar10_local


def get_config():
  config = cifar10_local.get_config()
  config.data.name = 'folder'
  config.data.crop = 64
  config.data.grey = 0.1
  config.local.numbers = 'ranged'
  config.train.steps = 24_000
  return config

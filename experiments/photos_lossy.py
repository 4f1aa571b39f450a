"""Photographs at every rate from one file: a transform codec with convolutional DRAW's decoder.

  python launch.py --config=experiments/photos_lossy.py --config.data.data_dir=FOLDER

Beyond the paper: transforms of cells of 8x8 pixels, rate-distortion-optimised quantisation, and a
multi-rate loss over all truncation points. FOLDER has train/ and test/ with photographs of 96
pixels a side or more. Two cores of an AMD EPYC train on 17 crops/s. The published model,
conv_draw/pretrained/photos_lossy, was trained for 3,500 steps without post-filter and contrast in
three runs, for 3,000 steps of the post-filter alone, and for 4,800 steps with the settings of its
config.json; its card describes the runs. Training everything at once from the start has been run
for a few steps only, for cifar10_lossy.py.
"""

from conv_draw.workdir.config import set_kind
from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'folder'
  config.data.crop = 96
  config.data.flips = True
  config.data.contrast = 3.0
  config.model.posterior = 'rounded'
  config.model.stride = 8
  config.model.kernel = 3
  config.model.steps = 18
  config.model.features = 64
  config.model.latents = 24
  set_kind(config, 'progressive')
  config.progressive.lmbda = 3.0
  config.progressive.image_kernel = 8
  config.progressive.post_filter = 48
  config.progressive.first_beta = 1 / 5000
  config.objective.beta = 1 / 2
  config.train.batch_size = 8
  config.train.optimizer = 'muon'
  config.train.learning_rate = 7e-4
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.clip_norm = 20_000.0
  config.train.ema_decay = 0.995
  config.train.steps = 4500
  config.spikes.threshold = 40.0
  return config

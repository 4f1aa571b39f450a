"""Photographs at every rate from one file: convolutional DRAW as a progressive codec.

  python launch.py --config=experiments/photos_lossy.py --config.data.data_dir=FOLDER

Beyond the paper: cells of 8x8 pixels, linear paths, thrifty rounding, and a cost that makes a codec
of every prefix of the latents. FOLDER has train/ and test/ with photographs of 96 pixels a side or
more. Two cores of an AMD EPYC take 17 squares/s; the model in conv_draw/pretrained/photos_lossy is
of 3,500 steps without restoration and contrast, in three runs, of 3,000 that trained its
restoration alone, and of 4,800 with all, as its config.json has it; its card tells of them. All
at once from the beginning was run for cifar10_lossy.py, and there for a few steps only.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'folder'
  config.data.crop = 96
  config.data.flips = True
  config.data.contrast = 3.0
  config.model.likelihood = 'squared_error'
  config.model.posterior = 'rounded'
  config.model.linear_paths = True
  config.model.price = 3.0
  config.model.stride = 8
  config.model.kernel = 3
  config.model.image_kernel = 8
  config.model.steps = 18
  config.model.features = 64
  config.model.encoder_features = 16
  config.model.restoration = 48
  config.model.latents = 24
  config.objective.progressive = 1 / 5000
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

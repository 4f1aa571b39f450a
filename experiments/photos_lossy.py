"""Photographs at every rate from one file: convolutional DRAW as a progressive codec.

  python launch.py --config=experiments/photos_lossy.py --config.data.data_dir=FOLDER

Beyond the paper: cells of 8x8 pixels, linear paths, rounded latents, and a cost that makes a codec
of every prefix of the latents. Not yet run to its end: the README says how far 200 steps came,
on one core. With steps of 4e-3 it diverged; a cost that weighs the nats of all prefixes alike made
the short ones worse from step 100 on.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'folder'
  config.data.crop = 96
  config.data.flips = True
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

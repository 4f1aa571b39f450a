"""32x32 crops of scikit-learn's two photographs (embedded): colour images without a download.

  python launch.py --config=experiments/photos.py

On two CPU cores that were busy with other work: 9 minutes at 25 to 40 images/s, 4.454 +- 0.145
bits/dim on the 156 test crops (multivariate Gaussian: 4.607).
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'photos'
  config.model.steps = 8
  config.model.features = 32
  config.train.steps = 1000
  config.train.batch_size = 16
  config.train.learning_rate = 1e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 50
  config.train.ema_decay = 0.99
  config.train.checkpoint_every = 250
  config.train.log_every = 50
  return config

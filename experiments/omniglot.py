"""Omniglot 28x28, binarised, split by drawer: the paper's model (section 4, table 1: < 92.0 nats).

  python launch.py --config=experiments/omniglot.py

Needs TFDS's omniglot 3.0.0 (--config.data.data_dir). Hardware: one data-centre GPU or a TPU;
not yet run at full size. On two CPU cores take fewer maps and iterations:

  python launch.py --config=experiments/omniglot.py --workdir=runs/omniglot_small \\
      --config.model.features=24 --config.model.steps=6
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'omniglot'
  config.data.split_by = 'drawer'
  config.model.likelihood = 'bernoulli'
  config.model.steps = 32
  config.model.features = 160
  config.model.latents = 12
  config.model.kernel = 5
  config.model.stride = 2
  config.train.learning_rate = 5e-4
  config.train.batch_size = 64
  config.train.steps = 100_000
  config.figures.temperature = 1.0  # figure 1 left varies the strokes that were not stored
  return config

"""Omniglot 28x28, binarised: the paper's model (section 4, table 1: < 92.0 nats).

  python launch.py --config=experiments/omniglot.py

T = 32, 5x5 kernels, stride 2, 12 latent maps, 160 LSTM maps, Adam at 5e-4: the defaults. Needs
TFDS's omniglot 3.0.0 (--config.data.data_dir). Of each character, 15 drawings are for training and
5 for testing, chosen by their hashes, as TFDS does not name the drawers; the paper does not
describe its split. Hardware: a data-centre GPU or a TPU; not yet run at full size. For a CPU,
smaller and with a higher learning rate (two cores: 157 images/s; 300 steps in 3 minutes give 151.4
nats on the test split, still falling steeply):

  python launch.py --config=experiments/omniglot.py --workdir=runs/omniglot_try \\
      --config.model.features=24 --config.model.steps=6 --config.train.learning_rate=2e-3 \\
      --config.train.ema_decay=0.99 --config.train.steps=300

Muon (--config.train.optimizer=muon, 6e-3) took small models to the loss of Adam in a fifth of the
steps (omniglot_small.py; F = 24, T = 6). At this size it has not been tried.
"""

from conv_draw.workdir import sweeps
from experiments import default


def get_config():
  config = default.get_config()
  config.data.name = 'omniglot'
  config.model.likelihood = 'bernoulli'
  config.train.steps = 100_000
  config.figures.temperature = 1.0  # figure 1 left varies the strokes that were not stored
  return config


def get_sweep():
  return sweeps.over_beta()

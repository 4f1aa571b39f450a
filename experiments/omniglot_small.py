"""Omniglot on CPU cores: the paper's model, smaller.

  python launch.py --config=experiments/omniglot_small.py --workdir=runs/omniglot_first
  python launch.py --config=experiments/omniglot_small.py \\
      --config.train.start_from=runs/omniglot_first --config.train.steps=10000

T = 6 and 24 LSTM maps instead of the paper's 32 and 160; a higher learning rate with cosine decay,
batches of 32 and averaged parameters. On one CPU core, beside other work: < 105.47 nats on the test
split after 145 minutes, < 102.06 after 77 more.

With Muon, 48 LSTM maps and T growing (the canvas is a sum over iterations, and W of (7) is scaled
when T grows) the bound is lower after as much time:

  python launch.py --config=experiments/omniglot_small.py --workdir=runs/omniglot_6 \\
      --config.model.features=48 --config.train.optimizer=muon --config.train.learning_rate=6e-3 \\
      --config.train.steps=3000
  python launch.py --config=experiments/omniglot_small.py --workdir=runs/omniglot_12 \\
      --config.model.features=48 --config.train.optimizer=muon --config.train.learning_rate=2e-3 \\
      --config.train.steps=1500 --config.model.steps=12 --config.train.start_from=runs/omniglot_6

give < 102.96 and < 99.57 nats, after an hour and another hour and a half on one AVX2 core; 1,800
steps more at 3e-3, an hour and a quarter, < 99.01.

The sweep over beta from the first model, with 5 to 8 minutes per point on one core, and figure 5:

  python launch.py --config=experiments/omniglot_small.py --workdir=runs/omniglot_beta \\
      --config.train.start_from=conv_draw/pretrained/omniglot --config.train.steps=500 \\
      --config.train.learning_rate=1e-3 --config.train.ema_decay=0.99 \\
      --sweep_index=0    # to 4; the model above has beta = 1
  python launch.py --mode=figures runs/omniglot_beta/beta_* runs/omniglot_small
"""

from conv_draw.workdir import sweeps
from experiments import omniglot


def get_config():
  config = omniglot.get_config()
  config.model.features = 24
  config.model.steps = 6
  config.train.steps = 12_000
  config.train.batch_size = 32
  config.train.learning_rate = 2e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.999
  return config


def get_sweep():
  return sweeps.over_beta()

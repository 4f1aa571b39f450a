"""CIFAR-10 on CPU cores: the paper's model, smaller.

  python launch.py --config=experiments/cifar10_small.py --workdir=runs/cifar10_first
  python launch.py --config=experiments/cifar10_small.py --workdir=runs/cifar10_second \\
      --config.train.start_from=runs/cifar10_first --config.train.learning_rate=2e-3 \\
      --config.train.steps=10000
  python launch.py --config=experiments/cifar10_small.py --config.train.learning_rate=2e-3 \\
      --config.train.start_from=runs/cifar10_second --config.train.steps=50000 \\
      --workdir=runs/cifar10_third
  python launch.py --config=experiments/cifar10_small.py --config.train.learning_rate=2e-3 \\
      --config.train.start_from=runs/cifar10_third --config.train.steps=32000 \\
      --workdir=runs/cifar10_fourth
  python launch.py --config=experiments/cifar10_small.py --config.train.learning_rate=1e-3 \\
      --config.train.start_from=runs/cifar10_fourth --config.train.steps=12000 \\
      --workdir=runs/cifar10_fifth

T = 4 and 24 LSTM maps instead of the paper's 32 and 320, batches of 16, cosine decay, averaged
parameters, and posteriors with an input-independent variance. Bits/dim on the test split after each
run, on one CPU core or two, beside other work: < 4.617 (43 minutes), < 4.490 (78), < 4.329 (138;
begun with train.steps=45000, raised at step 28,318), < 4.305 (108; begun with 36000, lowered at
4,699), < 4.299 (21).

With Muon, Gaussian posteriors, 32 LSTM maps and T growing by one or two (T = 4 to 8 at once
diverges), on one AVX2 core:

  python launch.py --config=experiments/cifar10_small.py --workdir=runs/cifar10_4 \\
      --config.model.posterior=gaussian --config.model.features=32 \\
      --config.train.optimizer=muon --config.train.learning_rate=1.5e-2 --config.train.steps=6000

and then the same with --config.train.steps=3000 and, first, --config.model.steps=6
--config.train.learning_rate=3e-3 --workdir=runs/cifar10_6
--config.train.start_from=runs/cifar10_4; second, --config.model.steps=7
--config.train.learning_rate=2e-3 --workdir=runs/cifar10_7
--config.train.start_from=runs/cifar10_6: < 4.295 after 65 and 26 minutes, < 4.245 after 60 more;
third, T = 8 likewise: < 4.210; fourth, T = 10 at 3e-3 with 6,000 steps: < 4.168 after 80 more.
"""

from experiments import cifar10


def get_config():
  config = cifar10.get_config()
  config.model.features = 24
  config.model.steps = 4
  config.model.posterior = 'constant'
  config.train.steps = 16_000
  config.train.batch_size = 16
  config.train.learning_rate = 1e-3
  config.train.schedule = 'cosine'
  config.train.warmup_steps = 100
  config.train.ema_decay = 0.999
  return config

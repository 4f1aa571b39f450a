"""CIFAR-10 in files of latents, a model for each rate: the paper's figure 3 by convolutional DRAW.

  python launch.py --config=experiments/cifar10_figure_3.py --workdir=runs/figure_3_first
  python launch.py --config=experiments/cifar10_figure_3.py --workdir=runs/figure_3_second \\
      --config.train.start_from=runs/figure_3_first --config.objective.beta=1e-3 \\
      --config.objective.kl_warmup_steps=0 --config.train.steps=2200
  python launch.py --config=experiments/cifar10_figure_3.py --workdir=runs/figure_3 \\
      --config.train.start_from=runs/figure_3_second --config.objective.kl_warmup_steps=0 \\
      --config.train.learning_rate=8e-3 --config.train.steps=800 --sweep_index=0
  python -m conv_draw.codec.study runs/figure_3/beta_* --data_dir=DIR --images=1000 \\
      --protocol=sheet

The third command trains beta = 7e-5 and 5e-3 (index 5), and with 600 steps 3e-4, 7.5e-4 and 1.3e-3
(2 to 4). The others start from runs/figure_3/beta_...: 1.2e-4 (1) from 7e-05, 500 steps; 1e-2 and
2e-2 (6, 7) from 0.005, 800; 6e-2 (8) from 0.02, 1,000. 7e-5 and 2e-2 are not in the package.

Dithered quantisation from the start (docs/codec.md, "Quantised posteriors"), and the squared error
as L^x of (12), so that beta sets the slope of rate and distortion. T = 8 and stride 4. On one AVX2
core, beside other work: 12, 12 and 3 to 6 minutes for each beta. docs/lossy.md has the results.
"""

from experiments import cifar10_small

BETAS = (7e-5, 1.2e-4, 3e-4, 7.5e-4, 1.3e-3, 5e-3, 1e-2, 2e-2, 6e-2)


def get_config():
  config = cifar10_small.get_config()
  config.model.features = 32
  config.model.steps = 8
  config.model.stride = 4
  config.model.posterior = 'uniform'
  config.model.bin_width = 1.0
  config.model.gain = 5.0
  config.model.likelihood = 'squared_error'
  config.objective.beta = 5e-4
  config.objective.kl_warmup_steps = 500
  config.train.optimizer = 'muon'
  config.train.learning_rate = 1e-2
  config.train.steps = 1500
  return config


def get_sweep():
  return [{'objective.beta': beta} for beta in BETAS]

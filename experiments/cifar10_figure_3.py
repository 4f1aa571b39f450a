"""CIFAR-10 in files of latents, a model for each rate: the paper's figure 3 by convolutional DRAW.

  python launch.py --config=experiments/cifar10_figure_3.py --workdir=runs/figure_3_first
  python launch.py --config=experiments/cifar10_figure_3.py --workdir=runs/figure_3_second \\
      --config.train.start_from=runs/figure_3_first --config.objective.beta=1e-3 \\
      --config.objective.kl_warmup_steps=0 --config.train.steps=2200
  python launch.py --config=experiments/cifar10_figure_3.py --workdir=runs/figure_3 \\
      --config.train.start_from=runs/figure_3_second --config.objective.kl_warmup_steps=0 \\
      --config.train.learning_rate=8e-3 --config.train.steps=800 \\
      --sweep_index=5    # and then from that of a neighbouring beta: 4, ..., 0; 6, 7
  python -m conv_draw.codec.study runs/figure_3/beta_* --data_dir=DIR --images=1000 \\
      --protocol=sheet

Dithered quantisation from the start (docs/codec.md, "Quantised posteriors"), and the squared error
as L^x of (12), so that beta sets the slope of rate and distortion. T = 8 and stride 4. On one AVX2
core, beside other work: 12, 12 and 3 to 4 minutes for each beta. docs/lossy.md has the results.
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

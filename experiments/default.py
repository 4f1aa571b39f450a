"""Every setting there is, with its default. The other experiments change only what differs.

Not an experiment itself: it trains nothing that the paper reports. Start from digits.py.
"""

from ml_collections import config_dict


def get_config():
  config = config_dict.ConfigDict()

  config.data = config_dict.ConfigDict()
  config.data.name = 'digits'  # digits, photos, cifar10, omniglot, imagenet32, imagenet64, folder
  config.data.data_dir = ''  # TFDS directory ('' = ~/tensorflow_datasets), or the folder of images
  config.data.split_by = 'drawer'  # omniglot: 'drawer' (15 + 5 a character) or 'alphabet' (TFDS's)
  config.data.binarisation_seed = 0  # omniglot: of the test split, binarised once
  config.data.image_size = 0  # folder: resize and crop to this square; 0 = all are of one size
  config.data.hold_out = 0.1  # folder without train/ and test/: the fraction that is the test split
  config.data.workers = 0  # imagenet, folder: processes that read and decode; 0 = one thread

  config.model = config_dict.ConfigDict()
  config.model.kind = 'draw'  # or 'vae', without recurrence
  config.model.likelihood = 'gaussian'  # or 'logistic_mixture', 'bernoulli'
  config.model.mixtures = 5  # logistic_mixture: components
  config.model.steps = 32  # draw: T, iterations
  config.model.features = 160  # F, LSTM feature maps (vae: feature maps) of the layer at the pixels
  config.model.latents = 12  # Z, latent maps an iteration
  config.model.stride = 2  # between image and hidden resolution; 0 = a fully connected layer
  config.model.upper_features = ()  # further layers, the next above the pixels first: F of each,
  config.model.upper_latents = ()  # Z of each,
  config.model.upper_strides = ()  # and stride to the layer below; 0 = fully connected
  config.model.posterior = 'gaussian'  # or for codecs 'constant', 'rounded', 'uniform'
  config.model.kernel = 5  # of the convolutions of all layers
  config.model.depth = 2  # vae: hidden layers before each layer of latents, either way
  config.model.compute_dtype = 'float32'  # or 'bfloat16': of the convolutions alone
  config.model.remat = False  # recompute iterations in the backward pass, to save memory

  config.objective = config_dict.ConfigDict()
  config.objective.beta = 1.0  # scales L^x in training (12); likelihoods are reported at 1
  config.objective.bound = 'elbo'  # or 'iwae': the importance-weighted bound (Burda et al., 2016)
  config.objective.samples = 1  # of the latents per image and training step: k of the bound

  config.train = config_dict.ConfigDict()
  config.train.steps = 100_000
  config.train.batch_size = 64  # over all devices
  config.train.learning_rate = 5e-4
  config.train.schedule = 'constant'  # or 'cosine', to 0 at the last step
  config.train.warmup_steps = 0  # linear, from 0
  config.train.clip_norm = 0.0  # global gradient norm; 0 = no clipping
  config.train.ema_decay = 0.0  # of the parameters; 0 = none. If set, the average is what is used
  config.train.start_from = ''  # a workdir whose parameters to begin with; '' = random ones
  config.train.part = 'all'  # or 'decoder': what inference alone uses stays as it is
  config.train.seed = 0
  config.train.log_every = 100
  config.train.checkpoint_every = 1000
  config.train.evaluate_every = 0  # 0 = at the end only

  config.spikes = config_dict.ConfigDict()
  config.spikes.window = 100  # healthy losses that the next one is compared with
  config.spikes.threshold = 10.0  # robust standard deviations above their median
  config.spikes.trust_after = 50  # healthy losses after which a checkpoint is trusted
  config.spikes.max_reverts = 5  # in a row without progress, then the run ends

  config.evaluate = config_dict.ConfigDict()
  config.evaluate.batch_size = 100  # over all devices; does not change the result
  config.evaluate.max_images = 0  # 0 = the whole split
  config.evaluate.importance_samples = 1  # K of the importance-weighted bound; 1 = the ELBO
  config.evaluate.seed = 0

  config.figures = config_dict.ConfigDict()
  config.figures.samples = 64
  config.figures.reconstructions = 12  # columns
  config.figures.temperature = 0.0  # of the prior that completes a reconstruction; 0 = its mean
  return config.lock()

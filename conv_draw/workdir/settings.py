"""Every setting there is: its default, what it may be, and what it is.

Experiments change some (experiments/*.py), and the command line more: --config.KEY=VALUE.
"""

from typing import NamedTuple

# What a setting may be, in the words of the error message. Otherwise a tuple of choices.
AT_LEAST_1 = 'at least 1'
NOT_NEGATIVE = 'at least 0'
FRACTION = 'at least 0 and below 1'
ODD = 'odd'
ANY = 'anything'  # of the default's type; if not all goes, it is checked elsewhere
TOO_LARGE = 2**32  # for all numbers that are whole: seeds have 32 bits
# Whether a run may be continued with another value: what has been computed stays valid. SHOWN: and
# the table shows that it was, since what is computed from there on depends on it.
STAYS, CHANGES, SHOWN = 'stays', 'changes', 'shown'


LIKELIHOODS = ('gaussian', 'squared_error', 'logistic_mixture', 'bernoulli')


class Setting(NamedTuple):
  """One row of the table.

  Attributes:
    key: section.name.
    default: its type is the setting's.
    rule: what it may be: one of the above, or a tuple of choices.
    may_change: STAYS, CHANGES or SHOWN.
    meaning: what it is, in one line.
  """
  key: str
  default: object
  rule: str | tuple[str, ...]
  may_change: str
  meaning: str


SETTINGS = (
    # The data set.
    Setting('data.name', 'digits', ANY, STAYS,
            'digits, photos, cifar10, omniglot, imagenet32, imagenet64 or folder'),
    Setting('data.data_dir', '', ANY, CHANGES,
            "TFDS directory ('' = ~/tensorflow_datasets), or the folder of images"),
    Setting('data.split_by', 'drawer', ('drawer', 'alphabet'), STAYS,
            "omniglot: drawer = 15 + 5 drawings of each character, alphabet = TFDS's own split"),
    Setting('data.binarisation_seed', 0, NOT_NEGATIVE, STAYS,
            'omniglot: of the test split, binarised once'),
    Setting('data.image_size', 0, NOT_NEGATIVE, STAYS,
            'folder: resize and crop to this square; 0 = all are of one size'),
    Setting('data.crop', 0, NOT_NEGATIVE, STAYS,
            'folder: learn from squares of so many pixels, cut out at random; 0 = whole images'),
    Setting('data.hold_out', 0.1, FRACTION, STAYS,
            'folder without train/ and test/: the fraction that is the test split'),
    Setting('data.flips', False, ANY, STAYS,
            'half of the training images, drawn at random, are mirrored left to right'),
    Setting('data.grey', 0.0, FRACTION, STAYS,
            'colour: this share of the training images, drawn at random, is shown in grey'),
    Setting('data.contrast', 1.0, AT_LEAST_1, STAYS,
            'training images are shown in 1 to 1/this of their contrast, drawn at random'),
    Setting('data.workers', 0, NOT_NEGATIVE, CHANGES,
            'imagenet, folder: processes that read and decode; 0 = one thread'),

    # The model. Its first layer is the one at the pixels.
    Setting('model.kind', 'draw', ('draw', 'vae'), STAYS, 'vae is without recurrence'),
    Setting('model.likelihood', 'gaussian', LIKELIHOODS + ('local',), STAYS,
            'of the pixels; bernoulli is for omniglot; local: pixels see their neighbours; '
            'squared_error: Gaussian, of a standard deviation of one grey level, for codecs'),
    Setting('model.mixtures', 5, AT_LEAST_1, STAYS, 'logistic_mixture, local: components'),
    Setting('model.local_canvas', 'gaussian', LIKELIHOODS, STAYS,
            'local: what the canvas is a picture in; bernoulli: the pixels are binary too'),
    Setting('model.local_horizon', 3, AT_LEAST_1, STAYS,
            'local: h, rows above and columns to either side that a pixel sees'),
    Setting('model.local_features', 160, AT_LEAST_1, STAYS, 'local: hidden units'),
    Setting('model.local_layers', 2, NOT_NEGATIVE, STAYS, 'local: hidden layers after the first'),
    Setting('model.local_position', False, ANY, STAYS, 'local: pixels see where they are'),
    Setting('model.local_numbers', 'real', ('real', 'ranged', 'whole'), STAYS,
            'local: whole = the network is of whole numbers, for lossless files that decode '
            'everywhere; ranged = its real numbers, to begin training with'),
    Setting('model.local_dtype', 'float32', ('float32', 'bfloat16'), STAYS,
            "local: of the factors of the hidden layers' products"),
    Setting('model.steps', 32, NOT_NEGATIVE, STAYS,
            'draw: T, iterations; 0: no latents, local pixels alone'),
    Setting('model.features', 160, AT_LEAST_1, STAYS,
            'F, LSTM feature maps (vae: feature maps) of the first layer'),
    Setting('model.encoder_features', 0, NOT_NEGATIVE, STAYS,
            "draw: of the first layer's encoder; 0 = F"),
    Setting('model.latents', 12, AT_LEAST_1, STAYS, 'Z, latent maps an iteration'),
    Setting('model.stride', 2, NOT_NEGATIVE, STAYS,
            'between image and hidden resolution; 0 = a fully connected layer'),
    Setting('model.upper_features', (), ANY, STAYS,
            'further layers, the next above the first one first: F of each'),
    Setting('model.upper_latents', (), ANY, STAYS, 'Z of each'),
    Setting('model.upper_strides', (), ANY, STAYS,
            'stride of each to the layer below; 0 = fully connected'),
    Setting('model.posterior', 'gaussian', ('gaussian', 'constant', 'rounded', 'uniform'), STAYS,
            'all but gaussian are for codecs'),
    Setting('model.bin_width', 0.0, NOT_NEGATIVE, STAYS,
            'uniform, rounded: of bins before training, in standard deviations of the prior; '
            '0 = sqrt(12), or 1 with linear paths'),
    Setting('model.gain', 0.0, NOT_NEGATIVE, STAYS,
            'uniform, rounded: learned, what posterior means are multiplied by, before training; '
            '0 = nothing'),
    Setting('model.price', 0.0, NOT_NEGATIVE, STAYS,
            'rounded: nats that an error of a bin is worth when latents are rounded to what costs '
            'least, with linear paths relative to the price of the iteration; 0 = to the nearest '
            'bin'),
    Setting('model.linear_paths', False, ANY, STAYS,
            'beyond the paper: latents also read errors and paint linearly, at first by principal '
            "components of the data's cells"),
    Setting('model.restoration', 0, NOT_NEGATIVE, STAYS,
            'beyond the paper: feature maps of the network that restores what is shown of a '
            'canvas, trained on all prefixes; 0 = none'),
    Setting('model.kernel', 5, ODD, STAYS, 'side of the convolutions of all layers'),
    Setting('model.image_kernel', 0, NOT_NEGATIVE, STAYS,
            'side of those between image and first layer: odd, or the stride; 0 = model.kernel, '
            'or 2 stride + 1 from stride 3 on'),
    Setting('model.depth', 2, AT_LEAST_1, STAYS,
            'vae: hidden layers before each layer of latents, either way'),
    Setting('model.compute_dtype', 'float32', ('float32', 'bfloat16'), STAYS,
            'of the convolutions alone'),
    Setting('model.remat', False, ANY, STAYS,
            'recompute iterations in the backward pass, to save memory'),

    # What is minimised.
    Setting('objective.beta', 1.0, NOT_NEGATIVE, STAYS,
            'scales L^x in training (12); likelihoods are reported at 1'),
    Setting('objective.progressive', 0.0, NOT_NEGATIVE, STAYS,
            'beyond the paper: every prefix of the latents is trained as a codec, with beta from '
            'this of the first one to objective.beta of the last; 0 = the last alone'),
    Setting('objective.kl_warmup_steps', 0, NOT_NEGATIVE, STAYS,
            'of the price of latents (5) in training: linear, to 1; 0 = 1 from the start'),
    Setting('objective.bound', 'elbo', ('elbo', 'iwae'), STAYS,
            'iwae: the importance-weighted bound (Burda et al., 2016)'),
    Setting('objective.samples', 1, AT_LEAST_1, STAYS,
            'of the latents per image and training step: k of the bound'),

    Setting('objective.pixels', 64, NOT_NEGATIVE, STAYS,
            'local: drawn of each image, to be scored in a training step; 0 = all'),
    Setting('objective.auxiliary', 0.0, NOT_NEGATIVE, STAYS,
            "local: weight of the canvas's own cost in training"),

    # Training.
    Setting('train.steps', 100_000, AT_LEAST_1, SHOWN, 'updates of the parameters'),
    Setting('train.batch_size', 64, AT_LEAST_1, STAYS, 'over all devices'),
    Setting('train.optimizer', 'adam', ('adam', 'muon'), STAYS,
            "muon: of local pixels' hidden layers, or without them of the LSTMs; Adam of the rest"),
    Setting('train.learning_rate', 5e-4, NOT_NEGATIVE, SHOWN, "Adam's, and Muon's"),
    Setting('train.schedule', 'constant', ('constant', 'cosine'), STAYS,
            'of the learning rate; cosine: to 0 at the last step'),
    Setting('train.warmup_steps', 0, NOT_NEGATIVE, STAYS, 'of the learning rate: linear, from 0'),
    Setting('train.clip_norm', 0.0, NOT_NEGATIVE, SHOWN, 'global gradient norm; 0 = no clipping'),
    Setting('train.ema_decay', 0.0, FRACTION, STAYS,
            'of the parameters; 0 = none. If set, the average is what is used'),
    Setting('train.start_from', '', ANY, STAYS,
            "a workdir whose parameters to begin with; '' = random ones"),
    Setting('train.part', 'all', ('all', 'decoder', 'head', 'draw', 'restoration'), STAYS,
            "decoder: what inference uses, and the bins' widths, stay as they are; local: head or "
            'draw alone; or restoration alone'),
    Setting('train.seed', 0, NOT_NEGATIVE, STAYS, 'of parameters, batches and noise'),
    Setting('train.log_every', 100, AT_LEAST_1, CHANGES, 'steps'),
    Setting('train.checkpoint_every', 1000, AT_LEAST_1, CHANGES, 'steps'),
    Setting('train.evaluate_every', 0, NOT_NEGATIVE, CHANGES, 'steps; 0 = at the end only'),

    # What is a spike of the loss, and which checkpoint it is reverted to.
    Setting('spikes.window', 100, AT_LEAST_1, SHOWN,
            'healthy losses that the next is compared with; more if means are compared'),
    Setting('spikes.threshold', 10.0, ANY, SHOWN,
            'robust standard deviations above their median (batches below 16: of means of 16)'),
    Setting('spikes.trust_after', 50, NOT_NEGATIVE, SHOWN,
            'healthy losses after which a checkpoint is trusted'),
    Setting('spikes.max_reverts', 5, NOT_NEGATIVE, SHOWN,
            'in a row without progress, then the run ends'),

    # Evaluation, on the test split.
    Setting('evaluate.batch_size', 100, AT_LEAST_1, CHANGES,
            'over all devices; does not change the result'),
    Setting('evaluate.max_images', 0, NOT_NEGATIVE, CHANGES, '0 = the whole split'),
    Setting('evaluate.importance_samples', 1, AT_LEAST_1, CHANGES,
            'K of the importance-weighted bound; 1 = the ELBO'),
    Setting('evaluate.seed', 0, NOT_NEGATIVE, CHANGES, 'of the noise'),

    # Figures.
    Setting('figures.samples', 64, AT_LEAST_1, CHANGES, 'pictures in samples.png'),
    Setting('figures.reconstructions', 12, AT_LEAST_1, CHANGES, 'columns'),
    Setting('figures.temperature', 0.0, NOT_NEGATIVE, CHANGES,
            'of the prior that completes a reconstruction; 0 = its mean'),
    Setting('figures.pixels', 'sampled', ('sampled', 'canvas'), CHANGES,
            "local: drawn pixels (sharp), or the canvas's mean (smooth)"),
)

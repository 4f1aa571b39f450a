"""Every setting there is: its default, what it may be, and what it is.

Experiments change some (experiments/*.py), and the command line more: --config.KEY=VALUE.
"""

from typing import NamedTuple

# What a setting may be, in the words of the error message. Otherwise a tuple of choices.
AT_LEAST_1 = 'at least 1'
NOT_NEGATIVE = 'at least 0'
FRACTION = 'at least 0 and below 1'
POSITIVE = 'above 0'
ODD = 'odd'
ANY = 'anything'  # of the default's type; if not all goes, it is checked elsewhere
TOO_LARGE = 2**32  # for all numbers that are whole: seeds have 32 bits
# Whether a run may be continued with another value: what has been computed stays valid. SHOWN: and
# the table shows that it was, since what is computed from there on depends on it.
STAYS, CHANGES, SHOWN = 'stays', 'changes', 'shown'


# Kinds of models beyond the paper, each with a section of settings of that name.
KINDS = ('local', 'progressive')


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

    # The model of the paper, and table 1's. Its first layer is the one at the pixels.
    Setting('model.kind', 'draw', ('draw', 'vae', *KINDS), STAYS,
            'vae is without recurrence; beyond the paper: local = local autoregressive pixels, '
            'progressive = one file for every rate; each has a section of its own'),
    Setting('model.likelihood', 'gaussian', ('gaussian', 'logistic_mixture', 'bernoulli'), STAYS,
            'of the pixels; bernoulli is for omniglot. local: of the canvas, and with bernoulli '
            'the pixels are binary; progressive: not asked for, it is squared error'),
    Setting('model.mixtures', 5, AT_LEAST_1, STAYS, 'logistic_mixture: components'),
    Setting('model.steps', 32, NOT_NEGATIVE, STAYS,
            'draw: T, iterations; 0: no latents, local pixels alone'),
    Setting('model.features', 160, AT_LEAST_1, STAYS,
            'F, LSTM feature maps (vae: feature maps) of the first layer'),
    Setting('model.latents', 12, AT_LEAST_1, STAYS, 'Z, latent maps an iteration'),
    Setting('model.stride', 2, NOT_NEGATIVE, STAYS,
            'between image and hidden resolution; 0 = a fully connected layer'),
    Setting('model.upper_features', (), ANY, STAYS,
            'further layers, the next above the first one first: F of each'),
    Setting('model.upper_latents', (), ANY, STAYS, 'Z of each'),
    Setting('model.upper_strides', (), ANY, STAYS,
            'stride of each to the layer below; 0 = fully connected'),
    Setting('model.posterior', 'gaussian', ('gaussian', 'constant', 'rounded', 'uniform'), STAYS,
            'constant: input-independent variance; rounded: scalar quantisation; uniform: dithered '
            'quantisation; all but gaussian are for codecs'),
    Setting('model.bin_width', 0.0, NOT_NEGATIVE, STAYS,
            'uniform, rounded: quantisation step before training, in standard deviations of the '
            'prior; 0 = sqrt(12)'),
    Setting('model.gain', 0.0, NOT_NEGATIVE, STAYS,
            'uniform, rounded: learned factor of the posterior means, before training; 0 = none'),
    Setting('model.kernel', 5, ODD, STAYS, 'side of the convolutions of all layers'),
    Setting('model.depth', 2, AT_LEAST_1, STAYS,
            'vae: hidden layers before each layer of latents, either way'),
    Setting('model.compute_dtype', 'float32', ('float32', 'bfloat16'), STAYS,
            'of the convolutions alone'),
    Setting('model.remat', False, ANY, STAYS,
            'recompute iterations in the backward pass, to save memory'),

    # model.kind=local: pixels that see their neighbours and the canvas of a ConvDraw.
    Setting('local.horizon', 3, AT_LEAST_1, STAYS,
            'h, the context radius: rows above and columns to either side that a pixel sees'),
    Setting('local.features', 160, AT_LEAST_1, STAYS, 'hidden units'),
    Setting('local.layers', 2, NOT_NEGATIVE, STAYS, 'hidden layers after the first'),
    Setting('local.mixtures', 5, AT_LEAST_1, STAYS, 'components, unless pixels are binary'),
    Setting('local.position', False, ANY, STAYS, 'pixels see where they are'),
    Setting('local.numbers', 'real', ('real', 'ranged', 'whole'), STAYS,
            'whole = integer network, for lossless files that decode everywhere; ranged = '
            'range-constrained floats, to begin training with'),
    Setting('local.dtype', 'float32', ('float32', 'bfloat16'), STAYS,
            "of the factors of the hidden layers' products"),
    Setting('local.pixels', 64, NOT_NEGATIVE, STAYS,
            'drawn of each image, to be scored in a training step; 0 = all'),
    Setting('local.auxiliary', 0.0, NOT_NEGATIVE, STAYS,
            "weight of the canvas's own cost in training"),
    Setting('local.figures', 'sampled', ('sampled', 'canvas'), CHANGES,
            "figures show sampled pixels (sharp), or the canvas's mean (smooth)"),

    # model.kind=progressive: a transform codec with convolutional DRAW's decoder.
    Setting('progressive.first_beta', 1e-3, POSITIVE, STAYS,
            'beta of the first truncation point in the multi-rate loss; the last has '
            'objective.beta'),
    Setting('progressive.lmbda', 0.0, NOT_NEGATIVE, STAYS,
            'Lagrange multiplier of RDOQ, relative to the slope of the iteration; 0 = to the '
            'nearest bin'),
    Setting('progressive.post_filter', 0, NOT_NEGATIVE, STAYS,
            'feature maps of the post-filter of canvases, trained at all truncation points; '
            '0 = none'),
    Setting('progressive.image_kernel', 0, NOT_NEGATIVE, STAYS,
            'side of the convolutions between image and maps: odd, or the stride; '
            '0 = 2 stride + 1'),

    # What is minimised.
    Setting('objective.beta', 1.0, NOT_NEGATIVE, STAYS,
            'scales L^x in training (12); likelihoods are reported at 1'),
    Setting('objective.kl_warmup_steps', 0, NOT_NEGATIVE, STAYS,
            'of the KL weight (5) in training: linear, to 1; 0 = 1 from the start'),
    Setting('objective.bound', 'elbo', ('elbo', 'iwae'), STAYS,
            'iwae: the importance-weighted bound (Burda et al., 2016)'),
    Setting('objective.samples', 1, AT_LEAST_1, STAYS,
            'of the latents per image and training step: k of the bound'),

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
    Setting('train.part', 'all', ('all', 'decoder', 'head', 'draw', 'post_filter'), STAYS,
            'trainable subset. decoder: all but what inference uses and the quantisation steps; '
            'local: head or draw alone; progressive: post_filter alone'),
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
)


def of(kind):
  """The settings that a configuration of a `model.kind` has."""
  others = [other for other in KINDS if other != kind]
  return [s for s in SETTINGS if s.key.partition('.')[0] not in others]

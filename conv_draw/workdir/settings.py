"""The table of all settings: key, default, rule, whether a run may change it, and meaning.

Experiments (experiments/*.py) and the command line (--config.KEY=VALUE) override the defaults.
"""

from typing import NamedTuple

# Rules for values, as error messages word them. A tuple as a rule lists the valid values.
AT_LEAST_1 = 'at least 1'
NOT_NEGATIVE = 'at least 0'
FRACTION = 'at least 0 and below 1'
POSITIVE = 'above 0'
ODD = 'odd'
ANY = 'anything'  # of the default's type; config.py may check it further
TOO_LARGE = 2**32  # integers must be below it, as seeds have 32 bits
# STAYS: a run must keep the value. CHANGES: it may be continued with another value. SHOWN: it may,
# and the table of results marks the run, since the rest of the training depends on the value.
STAYS, CHANGES, SHOWN = 'stays', 'changes', 'shown'

# Kinds of models beyond the paper; each has a section of settings of that name.
KINDS = ('local', 'progressive')


class Setting(NamedTuple):
  """One row of the table.

  Attributes:
    key: section.name.
    default: also defines the type.
    rule: a rule of those above, or a tuple of the valid values.
    may_change: STAYS, CHANGES or SHOWN.
    meaning: a description in one line.
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
            'omniglot: seed of the test split, binarised once'),
    Setting('data.image_size', 0, NOT_NEGATIVE, STAYS,
            'folder: resize and crop to squares of this side; 0 = all images have one size'),
    Setting('data.crop', 0, NOT_NEGATIVE, STAYS,
            'folder: train on random crops, squares of this side; 0 = whole images'),
    Setting('data.hold_out', 0.1, FRACTION, STAYS,
            'folder without train/ and test/: fraction of the images in the test split'),
    Setting('data.flips', False, ANY, STAYS,
            'mirror a random half of the training images left to right'),
    Setting('data.grey', 0.0, FRACTION, STAYS,
            'colour images: convert this random fraction of the training images to grey'),
    Setting('data.contrast', 1.0, AT_LEAST_1, STAYS,
            'reduce the contrast of training images by a random factor from 1 to this'),
    Setting('data.workers', 0, NOT_NEGATIVE, CHANGES,
            'imagenet, folder: processes that read and decode; 0 = a thread'),

    # The model of the paper, and the models of table 1. The first layer is next to the pixels.
    Setting('model.kind', 'draw', ('draw', 'vae', *KINDS), STAYS,
            'vae: no recurrence. Beyond the paper, with a section each: local = local '
            'autoregressive pixels, progressive = one file for every rate'),
    Setting('model.likelihood', 'gaussian',
            ('gaussian', 'squared_error', 'logistic_mixture', 'bernoulli'), STAYS,
            'of the pixels; squared_error: Gaussian of one grey level, for lossy files; bernoulli '
            'is for omniglot. local: of the canvas, and bernoulli means binary pixels; '
            'progressive: unused, the distortion is squared error'),
    Setting('model.mixtures', 5, AT_LEAST_1, STAYS, 'logistic_mixture: components'),
    Setting('model.steps', 32, NOT_NEGATIVE, STAYS,
            'draw: T, iterations; 0 = no latents, local autoregressive pixels alone'),
    Setting('model.features', 160, AT_LEAST_1, STAYS,
            'F, LSTM feature maps (vae: feature maps) of the first layer'),
    Setting('model.latents', 12, AT_LEAST_1, STAYS, 'Z, latent maps per iteration'),
    Setting('model.stride', 2, NOT_NEGATIVE, STAYS,
            'between image and hidden resolution; 0 = a fully connected layer'),
    Setting('model.upper_features', (), ANY, STAYS,
            'F of each further layer, from the second layer up'),
    Setting('model.upper_latents', (), ANY, STAYS, 'Z of each further layer'),
    Setting('model.upper_strides', (), ANY, STAYS,
            'stride of each further layer to the layer below; 0 = fully connected'),
    Setting('model.posterior', 'gaussian', ('gaussian', 'constant', 'rounded', 'uniform'), STAYS,
            'constant: input-independent variance; rounded: scalar quantisation; uniform: dithered '
            'quantisation; all but gaussian are for the codec'),
    Setting('model.bin_width', 0.0, NOT_NEGATIVE, STAYS,
            'uniform, rounded: quantisation step before training, in standard deviations of the '
            'prior; 0 = sqrt(12)'),
    Setting('model.gain', 0.0, NOT_NEGATIVE, STAYS,
            'uniform, rounded: learned factor of the posterior means, before training; 0 = none'),
    Setting('model.kernel', 5, ODD, STAYS, 'side of the convolutions of all layers'),
    Setting('model.depth', 2, AT_LEAST_1, STAYS,
            'vae: hidden layers before each layer of latents, in encoder and decoder'),
    Setting('model.compute_dtype', 'float32', ('float32', 'bfloat16'), STAYS,
            'of the convolutions; all else is float32'),
    Setting('model.remat', False, ANY, STAYS,
            'recompute iterations in the backward pass, to save memory'),

    # model.kind=local: pixels conditioned on their neighbours and on the canvas of a ConvDraw.
    Setting('local.horizon', 3, AT_LEAST_1, STAYS,
            'h, context radius: rows above and columns to either side of a pixel'),
    Setting('local.features', 160, AT_LEAST_1, STAYS, 'hidden units'),
    Setting('local.layers', 2, NOT_NEGATIVE, STAYS, 'hidden layers after the first'),
    Setting('local.mixtures', 5, AT_LEAST_1, STAYS, 'mixture components, unless pixels are binary'),
    Setting('local.position', False, ANY, STAYS, 'condition pixels on their position'),
    Setting('local.numbers', 'real', ('real', 'ranged', 'whole'), STAYS,
            'whole = integer network, for lossless files that decode on every machine; ranged = '
            'range-constrained float pre-training of it'),
    Setting('local.dtype', 'float32', ('float32', 'bfloat16'), STAYS,
            'of the factors in matrix products of the hidden layers'),
    Setting('local.pixels', 64, NOT_NEGATIVE, STAYS,
            'number of random pixels per image that a training step scores; 0 = all'),
    Setting('local.auxiliary', 0.0, NOT_NEGATIVE, STAYS,
            'weight of L^x of the canvas in the training loss'),
    Setting('local.figures', 'sampled', ('sampled', 'canvas'), CHANGES,
            'figures show sampled pixels (sharp) or the mean of the canvas (smooth)'),

    # model.kind=progressive: a transform codec with the decoder of convolutional DRAW.
    Setting('progressive.first_beta', 1e-3, POSITIVE, STAYS,
            'beta of the first truncation point in the multi-rate loss; the last has '
            'objective.beta'),
    Setting('progressive.lmbda', 0.0, NOT_NEGATIVE, STAYS,
            'Lagrange multiplier of RDOQ, relative to the distortion-rate slope of the iteration; '
            '0 = round to the nearest bin'),
    Setting('progressive.post_filter', 0, NOT_NEGATIVE, STAYS,
            'feature maps of the post-filter, trained at all truncation points; 0 = none'),
    Setting('progressive.image_kernel', 0, NOT_NEGATIVE, STAYS,
            'side of the convolutions between image and maps: odd, or the stride; '
            '0 = 2 stride + 1'),

    # The training loss.
    Setting('objective.beta', 1.0, NOT_NEGATIVE, STAYS,
            'weight of L^x in (12); reported likelihoods always use 1'),
    Setting('objective.kl_warmup_steps', 0, NOT_NEGATIVE, STAYS,
            'steps of the linear warm-up of the KL weight to 1; 0 = none'),
    Setting('objective.bound', 'elbo', ('elbo', 'iwae'), STAYS,
            'iwae: the importance-weighted bound (Burda et al., 2016)'),
    Setting('objective.samples', 1, AT_LEAST_1, STAYS,
            'k, samples of the latents per image and training step'),

    # Training.
    Setting('train.steps', 100_000, AT_LEAST_1, SHOWN, 'updates of the parameters'),
    Setting('train.batch_size', 64, AT_LEAST_1, STAYS, 'images per step, over all devices'),
    Setting('train.optimizer', 'adam', ('adam', 'muon'), STAYS,
            'muon: for the LSTMs or the hidden layers of local pixel models; Adam for the rest'),
    Setting('train.learning_rate', 5e-4, NOT_NEGATIVE, SHOWN, 'of Adam and of Muon'),
    Setting('train.schedule', 'constant', ('constant', 'cosine'), STAYS,
            'of the learning rate; cosine: decay to 0 at the last step'),
    Setting('train.warmup_steps', 0, NOT_NEGATIVE, STAYS,
            'steps of the linear warm-up of the learning rate from 0'),
    Setting('train.clip_norm', 0.0, NOT_NEGATIVE, SHOWN, 'global gradient norm; 0 = no clipping'),
    Setting('train.ema_decay', 0.0, FRACTION, STAYS,
            'of the moving average of the parameters, used outside of training; 0 = no average'),
    Setting('train.start_from', '', ANY, STAYS,
            "workdir of the initial parameters; '' = random parameters"),
    Setting('train.part', 'all', ('all', 'decoder', 'head', 'draw', 'post_filter'), STAYS,
            'trainable subset. decoder: all parameters except those of inference and the '
            'quantisation steps; local: head or draw; progressive: post_filter'),
    Setting('train.seed', 0, NOT_NEGATIVE, STAYS, 'of parameters, batches and noise'),
    Setting('train.log_every', 100, AT_LEAST_1, CHANGES, 'steps'),
    Setting('train.checkpoint_every', 1000, AT_LEAST_1, CHANGES, 'steps'),
    Setting('train.evaluate_every', 0, NOT_NEGATIVE, CHANGES, 'steps; 0 = at the end only'),

    # The loss monitor: what counts as a spike, and which checkpoints are validated.
    Setting('spikes.window', 100, AT_LEAST_1, SHOWN,
            'number of healthy losses that the next is compared with; more for small batches'),
    Setting('spikes.threshold', 10.0, ANY, SHOWN,
            'robust standard deviations above their median (batches below 16: of means over at '
            'least 16 images)'),
    Setting('spikes.trust_after', 50, NOT_NEGATIVE, SHOWN,
            'number of healthy losses that validate a checkpoint'),
    Setting('spikes.max_reverts', 5, NOT_NEGATIVE, SHOWN,
            'reverts in a row without progress before the run ends'),

    # Evaluation, on the test split.
    Setting('evaluate.batch_size', 100, AT_LEAST_1, CHANGES,
            'images, over all devices; does not change the result'),
    Setting('evaluate.max_images', 0, NOT_NEGATIVE, CHANGES, '0 = the whole split'),
    Setting('evaluate.importance_samples', 1, AT_LEAST_1, CHANGES,
            'K of the importance-weighted bound; 1 = the ELBO'),
    Setting('evaluate.seed', 0, NOT_NEGATIVE, CHANGES, 'of the noise'),

    # Figures.
    Setting('figures.samples', 64, AT_LEAST_1, CHANGES, 'images in samples.png'),
    Setting('figures.reconstructions', 12, AT_LEAST_1, CHANGES, 'columns in reconstructions.png'),
    Setting('figures.temperature', 0.0, NOT_NEGATIVE, CHANGES,
            'of the prior samples that complete a reconstruction; 0 = the prior mean'),
)


def of(kind: str) -> list[Setting]:
  """The settings of a configuration with that `model.kind`."""
  others = [other for other in KINDS if other != kind]
  return [s for s in SETTINGS if s.key.partition('.')[0] not in others]

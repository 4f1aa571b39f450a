"""How much a training step computes."""

from conv_draw.errors import UserError

SHAPES = {
    'digits': (8, 8, 1), 'photos': (32, 32, 3), 'cifar10': (32, 32, 3), 'omniglot': (28, 28, 1),
    'imagenet32': (32, 32, 3), 'imagenet64': (64, 64, 3), 'folder': (32, 32, 3)}


def image_shape(config):
  """(H, W, C) of the images of the data set that a config names."""
  if config.data.name not in SHAPES:
    raise UserError(f'there is no data set {config.data.name!r}: set --config.data.name to one of '
                    + ', '.join(SHAPES))
  return SHAPES[config.data.name]


def multiplications(config, shape):
  """Multiply-adds of one image's forward pass, counted as direct convolutions."""
  m, (height, width, c) = config.model, shape
  f, r = m.features, c * (2 if m.likelihood == 'gaussian' else 1)
  positions = -(-height // m.stride) * -(-width // m.stride) * m.kernel**2
  step = 4 * f * (c + 2 * f) + 2 * f * 2 * m.latents + 4 * f * (m.latents + f + r) + f * r
  return positions * (m.steps * step + c * 4 * f)

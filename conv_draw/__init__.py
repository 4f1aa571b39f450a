"""Convolutional DRAW (Gregor et al., 2016) in JAX: the model and its objective.

Importing this package does not load training, data, checkpoints or the command line. It does not
load JAX either, until one of the names below is used: loading JAX takes a second, some programs do
not need it, and some must set environment variables before.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from conv_draw.training import trained

__all__ = [
    'BernoulliPixels', 'ConvDraw', 'Elbo', 'GaussianPixels', 'Inference',
    'LogisticMixturePixels', 'bits_per_dim', 'elbo', 'load', 'loss',
]


def load(name: str) -> 'trained.Run':
  """A trained model: `training.trained.Run`, with `.model` and `.params`.

  Args:
    name: of a model of the package (`python -m conv_draw.codec list`), or the path of a workdir.
  Raises:
    UserError: there is no such model.
  """
  from conv_draw.training import trained
  return trained.named(name)


def __getattr__(name):
  if name in ('ConvDraw', 'Inference'):
    from conv_draw.model import conv_draw as home
  elif name in ('Elbo', 'bits_per_dim', 'elbo', 'loss'):
    from conv_draw.model import objective as home
  elif name == 'LogisticMixturePixels':
    from conv_draw.autoregressive import mixture_pixels as home
  elif name in __all__:
    from conv_draw.model import pixels as home
  else:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(home, name)


def __dir__():
  return sorted({*globals(), *__all__})

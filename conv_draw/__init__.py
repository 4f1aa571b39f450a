"""Convolutional DRAW (Gregor et al., 2016) in JAX: the model and its objective.

Training, data, checkpoints and the command line are modules of their own that importing this
package does not load. Nor does it load JAX before one of its names is used: what needs no model,
such as `python -m conv_draw.codec info`, starts at once.
"""

import importlib

_MODULES = {  # of `conv_draw.model`, and the names that the package hands on from them
    'conv_draw': ('ConvDraw', 'Inference'),
    'objective': ('Elbo', 'bits_per_dim', 'elbo', 'loss'),
    'pixels': ('BernoulliPixels', 'GaussianPixels', 'LogisticMixturePixels'),
}
__all__ = sorted(name for names in _MODULES.values() for name in names)


def __getattr__(name):
  for module, names in _MODULES.items():
    if name in names:
      value = globals()[name] = getattr(importlib.import_module(f'{__name__}.model.{module}'), name)
      return value
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return sorted({*globals(), *__all__})

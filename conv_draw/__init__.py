"""Convolutional DRAW (Gregor et al., 2016) in JAX: the model and its objective.

Training, data, checkpoints and the command line are modules of their own that importing this
package does not load.
"""

from conv_draw.model.conv_draw import ConvDraw, Inference
from conv_draw.model.objective import Elbo, bits_per_dim, elbo, loss
from conv_draw.model.pixels import BernoulliPixels, GaussianPixels, LogisticMixturePixels

__all__ = [
    'BernoulliPixels', 'ConvDraw', 'Elbo', 'GaussianPixels', 'Inference',
    'LogisticMixturePixels', 'bits_per_dim', 'elbo', 'loss',
]

"""Models without parameters to train, scored by the same likelihood code: they check the units."""

import math

import numpy as np

from conv_draw import distributions

# A covariance of more dimensions than this takes minutes and gigabytes.
MAX_DIMENSIONS = 4096


def uniform_nats(image_shape, levels):
  """Nats per image of shape (H, W, C) if all of a pixel's `levels` values are equally likely."""
  return math.prod(image_shape) * math.log(levels)


def gaussian_is_feasible(images):
  """Whether `multivariate_gaussian_nats` takes seconds rather than hours for `data.Images`."""
  return math.prod(images.shape) <= MAX_DIMENSIONS


def multivariate_gaussian_nats(train, test):
  """Mean L^x of `test` under a full-covariance Gaussian fitted on `train`, in nats per image.

  The fit minimises the mean L^x of `train`: its covariance is that of the pixels, each spread
  uniformly over its bin (10). In the covariance's eigenbasis pixels are independent, and a rotation
  keeps both volume and the bins' second moment: L^x is `distributions.gaussian_cost` summed there.

  Args:
    train, test: `data.Images` for which `gaussian_is_feasible`.
  """
  bin_width = 1 / (train.levels - 1)
  flat = lambda images: _all(images).reshape(len(images), -1).astype(np.float64) * bin_width
  x = flat(train)
  mean = x.mean(0)
  x -= mean
  covariance = x.T @ x / len(x) + bin_width**2 / 12 * np.eye(x.shape[1])
  variances, basis = np.linalg.eigh(covariance)
  rotated = (flat(test) - mean) @ basis
  cost = distributions.gaussian_cost(rotated, 0.0, 0.5 * np.log(variances), bin_width)
  return float(np.asarray(cost, np.float64).sum(1).mean())


def bernoulli_nats(train, test):
  """Nats per image under independent pixels with the training split's frequencies of ink."""
  frequency = _all(train).mean(0, dtype=np.float64) / (train.levels - 1)
  frequency = np.clip(frequency, 1e-4, 1 - 1e-4)
  x = _all(test) / (test.levels - 1)
  cost = -x * np.log(frequency) - (1 - x) * np.log1p(-frequency)
  return float(cost.reshape(len(test), -1).sum(1).mean())


def _all(images):
  return images.fetch(np.arange(len(images)))

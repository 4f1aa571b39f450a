"""Baselines without training, which a model has to beat. They also check the units."""

import math

import numpy as np

from conv_draw.model.pixels import gaussian_cost

# A covariance of more dimensions takes minutes and gigabytes.
MAX_DIMENSIONS = 4096


def uniform_nats(image_shape, grey_levels):
  """Nats per image of shape (H, W, C) under a uniform distribution of pixel values."""
  return math.prod(image_shape) * math.log(grey_levels)


def gaussian_is_feasible(train):
  """Whether `train` has enough images to fit a covariance, and few enough dimensions."""
  return math.prod(train.shape) <= min(MAX_DIMENSIONS, len(train))


def multivariate_gaussian_nats(train, test):
  """Mean L^x of `test` under a full-covariance Gaussian fitted on `train`, in nats per image.

  The fit minimises the mean L^x of `train`: its covariance is that of pixels spread uniformly over
  their bins (10). In the covariance's eigenbasis pixels are independent. The rotation preserves
  volumes and the bins' second moments, so that L^x is the sum of `gaussian_cost` there.

  Args:
    train, test: `sets.Images` for which `gaussian_is_feasible`.
  """
  bin_width = 1 / (train.grey_levels - 1)
  size = math.prod(train.shape)
  total, squares = np.zeros(size), np.zeros((size, size))
  for x in _chunks(train):
    total += x.sum(0)
    squares += x.T @ x
  mean = total / len(train)
  covariance = squares / len(train) - np.outer(mean, mean) + bin_width**2 / 12 * np.eye(size)
  variances, basis = np.linalg.eigh(covariance)
  nats = 0.0
  for x in _chunks(test):
    cost = gaussian_cost(
        (x - mean) @ basis, 0.0, 0.5 * np.log(variances)[None], bin_width)
    nats += np.asarray(cost, np.float64).sum()
  return float(nats / len(test))


def bernoulli_nats(train, test):
  """Nats per image of `test` under independent pixels with the frequencies of ink of `train`."""
  frequency = sum(x.sum(0) for x in _chunks(train)) / len(train) + 0.5
  frequency = np.clip(frequency, 1e-4, 1 - 1e-4)
  ink = sum(x.sum(0) for x in _chunks(test)) / len(test) + 0.5
  return float((-ink * np.log(frequency) - (1 - ink) * np.log1p(-frequency)).sum())


def _chunks(images, size=2000):
  """Yields all images as [<= size, H W C] float64 in [-0.5, 0.5], centred for precision."""
  for start in range(0, len(images), size):
    x = images.fetch(np.arange(start, min(start + size, len(images))))
    yield x.reshape(len(x), -1) / (images.grey_levels - 1) - 0.5

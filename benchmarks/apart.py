"""Differences between two environments that decode the same files."""

import os

import numpy as np

from conv_draw.codec.network import Network
from conv_draw.codec.quantiser import LOG2_SCALE_ERROR, MEAN_ERROR


def recorded_priors():
  """A list to which each call of `Network.prior` will append means and sigmas, float32 [2, n].

  They are of the coded latents only: environments need not agree on the others.
  """
  original, found = Network.prior, []

  def prior(self, i, coding_pass, t, *rest):
    mean, sigma = original(self, i, coding_pass, t, *rest)
    coded = self.coding_passes(i, t)[coding_pass]
    by_image = lambda values: values.reshape(self.batch, -1)[:, coded].ravel()
    found.append(np.float32([by_image(mean), by_image(sigma)]))
    return mean, sigma

  Network.prior = prior
  return found


def differences(folder, writer, reader):
  """Differences of the files in a folder, as `writer` and `reader` have decoded them, as a dict."""
  names = [name for name in os.listdir(folder) if name.isdecimal()]
  failed = values = off = most = 0
  priors, beyond, of_means, of_scales = 0, 0, 0.0, 0.0
  for name in names:
    found = []
    for who in (writer, reader):
      try:
        with np.load(os.path.join(folder, f'{name}.{who}.npz')) as arrays:
          found.append((arrays['image'].astype(int), *arrays['priors'].astype(np.float64)))
      except FileNotFoundError:
        break
    if len(found) < 2:
      failed += 1
      continue
    (image, mean, sigma), (other, other_mean, other_sigma) = found
    values += image.size
    off += int((image != other).sum())
    most = max(most, int(abs(image - other).max()))
    means = abs(other_mean - mean) / (MEAN_ERROR * (sigma + abs(mean)))
    scales = abs(np.log2(other_sigma / sigma)) / LOG2_SCALE_ERROR
    priors += mean.size
    beyond += int((np.maximum(means, scales) > 1).sum())
    of_means, of_scales = means.max(initial=of_means), scales.max(initial=of_scales)
  return {
      'count': len(names), 'failed': failed, 'values': values, 'values_off': off,
      'off_at_most': most, 'priors': priors, 'priors_beyond': beyond,
      'means_off_at_most': round(float(of_means), 3),
      'scales_off_at_most': round(float(of_scales), 3)}

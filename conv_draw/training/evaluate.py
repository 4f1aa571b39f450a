"""One exact pass over a split: every image counted once, padding masked, beta = 1."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from conv_draw.data import sets
from conv_draw.machine import devices
from conv_draw.model import objective
from conv_draw.training import steps


class Result(NamedTuple):
  """Means over a split, in nats per image."""

  count: int  # images
  nats: float  # the bound: ELBO (K = 1) or importance weighted (K > 1)
  standard_error_nats: float  # of that mean, over images
  elbo_nats: float
  reconstruction_nats: float
  kl_nats: np.ndarray  # [T, L]


@functools.cache
def _score(model, seed):
  """The mapped `steps.eval_step`, compiled once however often a run evaluates."""
  return jax.pmap(
      functools.partial(steps.eval_step, model=model, seed=seed), in_axes=(0, 0, 0, None))


def evaluate(run, report=lambda done: None, should_stop=lambda: False):
  """Bounds the negative log likelihood of a run's images.

  Noise is fixed by (evaluate.seed, image, sample): the result does not depend on the batch size or
  the number of devices, and any two evaluations of the same parameters agree.

  Args:
    run: a `trained.Run` with data. Of its config, the settings `evaluate`: batch_size, max_images,
      importance_samples K, seed. With K > 1 the bound is -log 1/K sum_k p(x, z_k) / q(z_k | x), in
      constant memory (Burda et al., 2016).
    report: called with the number of images done.
    should_stop: called after each batch; true ends the evaluation there.
  Returns:
    `Result`; None if it was to stop.
  """
  config = run.config.evaluate
  k = config.importance_samples
  score = _score(run.model, config.seed)
  params = devices.on_devices(devices.replicate(run.params))
  count = jax.device_count()
  # Rounded up, so that the devices divide it: batches have more images, not padding.
  batch_size = -(-config.batch_size // count) * count
  bounds, reconstructions, kls = [], [], []
  for batch, mask, indices in sets.eval_batches(run.images, batch_size, config.max_images):
    real = mask > 0
    shares = devices.on_devices(devices.split(devices.mine((batch, indices.astype(np.int32)))))
    log_sum = -np.inf
    mean = lambda total, new: new / k if total is None else total + new / k
    reconstruction = kl = None
    for sample in range(k):
      terms = score(params, *shares, sample)
      # [devices, T, L, B / devices] -> [B, T, L], in float64 so that the sums are exact enough
      kl_nats = np.moveaxis(devices.of_all(terms.kl_nats).astype(np.float64), -1, 1)
      kl_nats = kl_nats.reshape(len(batch), *kl_nats.shape[2:])[real]
      nats = devices.of_all(terms.reconstruction_nats).astype(np.float64).reshape(-1)[real]
      log_ratio = devices.of_all(terms.log_ratio_nats).astype(np.float64).reshape(-1)[real]
      reconstruction, kl = mean(reconstruction, nats), mean(kl, kl_nats)
      log_sum = np.logaddexp(log_sum, -nats - log_ratio)
    bounds.append(
        np.log(k) - log_sum if k > 1 else reconstruction + kl.sum((1, 2)))
    reconstructions.append(reconstruction)
    kls.append(kl)
    report(sum(map(len, bounds)))
    if should_stop():
      return None
  bounds, reconstructions, kls = map(np.concatenate, (bounds, reconstructions, kls))
  return Result(
      len(bounds), bounds.mean(),
      bounds.std(ddof=1) / np.sqrt(len(bounds)) if len(bounds) > 1 else np.inf,
      (reconstructions + kls.sum((1, 2))).mean(), reconstructions.mean(), kls.mean(0))


def write(metrics, run, result):
  """Adds a `Result` of a `trained.Run` to a `metrics.Metrics`, and how it was measured."""
  images = run.images
  metrics.write(run.step, 'test', {
      'nats': result.nats,
      'bits_per_dim': objective.bits_per_dim(result.nats, images.shape),
      'standard_error_nats': result.standard_error_nats,
      'elbo_nats': result.elbo_nats,
      'reconstruction_nats': result.reconstruction_nats,
      'kl_nats': result.kl_nats.sum(),
      'images': result.count,
  }, data=images.name, of=len(images), importance_samples=run.config.evaluate.importance_samples,
      seed=run.config.evaluate.seed)

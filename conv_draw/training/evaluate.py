"""Exact evaluation of a split: every image counts once, padding is masked, beta = 1."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from conv_draw.data import sets
from conv_draw.machine import devices
from conv_draw.model import objective
from conv_draw.training import steps, trained
from conv_draw.workdir import metrics as metrics_lib


class Result(NamedTuple):
  """Means over a split, in nats per image."""

  count: int  # images
  nats: float  # the bound: ELBO (K = 1) or importance-weighted (K > 1)
  standard_error_nats: float  # of that mean, over images; NaN for a single image
  elbo_nats: float
  reconstruction_nats: float
  kl_nats: np.ndarray  # [T, L]
  squared_error: np.ndarray | None  # [T] per value, of the image of r_t; embedded models only

  @property
  def prefix_kl_nats(self) -> np.ndarray:
    """[T] KL of the first t latent groups."""
    return self.kl_nats.sum(1).cumsum()

  @property
  def prefix_psnr_db(self) -> np.ndarray:
    """[T] peak signal-to-noise ratio of the mean squared error; embedded models only."""
    return -10 * np.log10(self.squared_error)


@functools.cache
def _score(model, seed):
  """The mapped `steps.eval_step`; cached, so that a run compiles it once."""
  return jax.pmap(
      functools.partial(steps.eval_step, model=model, seed=seed), axis_name=devices.AXIS,
      in_axes=(0, 0, 0, None))


def evaluate(
    run: trained.Run, report: Callable[[int], None] = lambda done: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result | None:
  """Bounds the negative log-likelihood of a run's images.

  Noise depends on (evaluate.seed, image, sample) alone: two evaluations of the same parameters
  agree, whatever the batch size and the number of devices.

  Args:
    run: with data. The settings `config.evaluate` apply; with importance_samples K > 1 the bound is
      -log 1/K sum_k p(x, z_k) / q(z_k | x), computed in constant memory (Burda et al., 2016).
    report: called after each batch with the number of images done.
    should_stop: called after each batch; evaluation ends if it returns true.
  Returns:
    `Result`; None if stopped.
  """
  config = run.config.evaluate
  k = config.importance_samples
  score = _score(run.model, config.seed)
  params = devices.replicate(run.params)
  count = jax.device_count()
  # Rounded up to a multiple of the devices: larger batches rather than padding.
  batch_size = -(-config.batch_size // count) * count
  scored, done = [], 0  # (bound, `objective.Elbo`, squared error) of each batch's images
  for batch, mask, indices in sets.eval_batches(run.images, batch_size, config.max_images):
    shares = devices.on_devices(devices.split(devices.mine((batch, indices.astype(np.int32)))))
    log_sum, means = -np.inf, None
    for sample in range(k):
      with jax.transfer_guard('allow'):  # the sample's number goes to the devices
        outputs = score(params, *shares, sample)
      outputs = jax.tree.map(functools.partial(_of_images, mask=mask), outputs)
      parts = jax.tree.map(lambda x: x / k, outputs)
      means = parts if means is None else jax.tree.map(np.add, means, parts)
      terms, _ = outputs
      log_sum = np.logaddexp(log_sum, -terms.reconstruction_nats - terms.log_ratio_nats)
    terms, squared_error = means
    bound = np.log(k) - log_sum if k > 1 else _elbo(terms)
    scored.append((bound, terms, squared_error))
    done += len(bound)
    report(done)
    if should_stop():
      return None
  bounds, terms, errors = jax.tree.map(lambda *batches: np.concatenate(batches), *scored)
  return Result(
      len(bounds), bounds.mean(),
      bounds.std(ddof=1) / np.sqrt(len(bounds)) if len(bounds) > 1 else np.nan,
      _elbo(terms).mean(), terms.reconstruction_nats.mean(), terms.kl_nats.mean(0),
      None if errors is None else errors.mean(0) / np.prod(run.images.shape))


def _of_images(x, mask):
  """[devices, ..., B / devices] -> float64 [images, ...], without padding; exact enough to sum."""
  x = np.moveaxis(devices.of_all(x).astype(np.float64), -1, 1)
  return x.reshape(len(mask), *x.shape[2:])[mask > 0]


def _elbo(terms):
  """[images] from terms of shapes [images] and [images, T, L]."""
  return terms.reconstruction_nats + terms.kl_nats.sum((1, 2))


def truncation_points(run: trained.Run, result: Result) -> str:
  """One line: bits/dim and PSNR in dB at every truncation point, in ascending order."""
  rates = objective.bits_per_dim(result.prefix_kl_nats, run.images.shape)
  return 'bits/dim -> dB: ' + ', '.join(
      f'{rate:.3f} {psnr:.2f}' for rate, psnr in zip(rates, result.prefix_psnr_db, strict=True))


def write(metrics: metrics_lib.Metrics, run: trained.Run, result: Result) -> None:
  """Logs a `Result` and the settings it was measured with."""
  images = run.images
  prefixes = {} if result.squared_error is None else {
      'prefix_kl_nats': result.prefix_kl_nats.tolist(),
      'prefix_psnr_db': result.prefix_psnr_db.tolist()}
  known = np.isfinite(result.standard_error_nats)  # else null, and nothing for TensorBoard
  error = {'standard_error_nats': float(result.standard_error_nats) if known else None}
  metrics.write(run.step, 'test', {
      'nats': result.nats,
      'bits_per_dim': objective.bits_per_dim(result.nats, images.shape),
      **(error if known else {}),
      'elbo_nats': result.elbo_nats,
      'reconstruction_nats': result.reconstruction_nats,
      'kl_nats': result.kl_nats.sum(),
      'images': result.count,
  }, data=images.name, of=len(images), importance_samples=run.config.evaluate.importance_samples,
      seed=run.config.evaluate.seed, **prefixes, **({} if known else error))

"""Initial values of the transforms: the KLT of the data and a reverse water-filling allocation.

Each iteration refines coefficients in the order of reverse water-filling at its distortion-rate
slope: refinements that remove the most error per nat come first. A refinement divides the
quantisation step of a coefficient by a power of 3, so that the new bins lie within the old.
"""

import math
from collections.abc import Sequence

import numpy as np

from conv_draw.progressive.context import LEAST_SIGMA
from conv_draw.progressive.transform import GREY, INTERLACED, MATRIX

QUANTISATION_STEPS = tuple(486.0 / 3**i for i in range(6))  # in grey levels
QUANTILES = 2**14  # points that represent a distribution
IMAGES, CELLS = 2000, 50_000  # of the data, for the principal components


def cells(images: np.ndarray, stride: int) -> np.ndarray:
  """uint8 [B, H, W, C] -> uint8 [N, D]: all complete cells of s x s pixels."""
  b, height, width, c = images.shape
  h, w = height // stride, width // stride
  cut = images[:, : h * stride, : w * stride].reshape(b, h, stride, w, stride, c)
  return cut.swapaxes(2, 3).reshape(-1, stride * stride * c)


def of_images(images, stride: int, betas: np.ndarray, latents: int, seed: int) -> dict:
  """`transforms` of random cells of a `data.sets.Images`."""
  rng = np.random.default_rng(seed)
  some = rng.integers(0, len(images), IMAGES)
  places = (rng.random((IMAGES, 2)),) if images.crops else ()
  fetched = np.concatenate([  # in batches of 100, as images may be large
      images.fetch(some[i : i + 100], *(p[i : i + 100] for p in places))
      for i in range(0, IMAGES, 100)])
  return transforms(rng.permutation(cells(fetched, stride))[:CELLS], betas, latents)


def transforms(blocks: np.ndarray, betas: np.ndarray, latents: int) -> dict[str, np.ndarray]:
  """{parameter's name: float32 array} of the transforms of all iterations.

  Args:
    blocks: [N, D] uint8, cells of the data's images.
    betas: [T] of `objective.geometric_betas`, T > INTERLACED: nats per half a squared grey level at
      an iteration's slope. The distortion weight of a quantisation step w is beta w^2 / 2.
    latents: Z.
  """
  blocks = blocks.astype(np.float64) - GREY / 2  # mid grey, the initial canvas
  variances, vectors = np.linalg.eigh(blocks.T @ blocks / len(blocks))
  # In descending order. With fewer blocks than values some are 0, or less by rounding.
  variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
  t, d = len(betas), blocks.shape[1]
  matrix, step, used = np.zeros((t, d, latents)), np.ones((t, latents)), np.zeros((t, latents))
  log_sigma, coefficient = np.zeros((t, latents)), np.zeros((t, latents))
  left = blocks @ vectors
  groups = allocation(variances, betas[INTERLACED - 1 :], latents)
  for i, group in enumerate([groups[0]] * (INTERLACED - 1) + groups):
    n, coefficients = len(group), [which for which, _ in group]
    coefficient[i, :n], used[i, :n] = coefficients, 1
    matrix[i, :, :n], step[i, :n] = vectors[:, coefficients], [size for _, size in group]
    bins = np.rint(left[:, coefficients] / step[i, :n])
    if i >= INTERLACED - 1:
      left[:, coefficients] -= bins * step[i, :n]
    # The root mean square is at least the scale lower bound, where almost all bins are 0.
    log_sigma[i, :n] = np.log(np.maximum(np.sqrt((bins**2).mean(0)), LEAST_SIGMA))
  found = {
      'linear_read': matrix / MATRIX, 'linear_paint': matrix.swapaxes(1, 2) / MATRIX,
      'linear_width': step, 'linear_component': coefficient,
      'linear_worth': used * np.asarray(betas)[:, None] * step**2 / 2,
      'linear_prior_bias': np.concatenate([np.zeros_like(log_sigma), log_sigma], -1)}
  return {name: value.astype(np.float32) for name, value in found.items()}


def allocation(variances: np.ndarray, betas: np.ndarray, latents: int) -> list:
  """The refinements of each iteration: T lists of (coefficient, step), the best first.

  Coefficients are modelled as Laplacian. An iteration takes all refinements that pay at its slope,
  up to Z; the others wait for a later iteration.

  Args:
    variances: [D] in squared grey levels.
    betas: [T], ascending, as of `transforms`.
    latents: Z.
  """
  u = (np.arange(QUANTILES) + 0.5) / QUANTILES
  unit = np.sign(u - 0.5) * -np.log1p(-2 * abs(u - 0.5)) / math.sqrt(2)
  refinements = []  # (slope: squared grey levels per nat, coefficient, step)
  for coefficient, variance in enumerate(variances):
    nats, error, least = 0.0, variance, math.inf
    points = [(*_rate_and_distortion(unit * math.sqrt(variance), step), step)
              for step in QUANTISATION_STEPS]
    while any(n > nats + 1e-4 and e < error for n, e, _ in points):
      slope, n, e, step = max(
          ((error - e) / (n - nats), n, e, step)
          for n, e, step in points if n > nats + 1e-4 and e < error)
      least = min(least, slope)
      refinements.append((least, coefficient, step))
      nats, error = n, e
  refinements.sort(reverse=True)
  groups = []
  for beta in betas:
    group, later = {}, []
    for slope, coefficient, step in refinements:
      pays = slope >= 2 / beta
      if pays and (coefficient in group or len(group) < latents):
        group[coefficient] = step  # of two refinements of a coefficient, the finer
      else:
        later.append((slope, coefficient, step))
    groups.append(list(group.items()))
    refinements = later
  return groups


def _rate_and_distortion(points: Sequence[float], step: float) -> tuple[float, float]:
  """(nats, mean squared error) of equally likely points, quantised to the middles of bins."""
  bins = np.rint(points / step)
  _, counts = np.unique(bins, return_counts=True)
  share = counts / len(points)
  return -(share * np.log(share)).sum(), ((points - bins * step) ** 2).mean()


def filter_scale(betas: np.ndarray) -> np.ndarray:
  """The post-filter's error scales d_t [T], initial values of its `restoration_size`.

  d_t is the error at which the distortion-rate slope is that of beta_t.

  Args:
    betas: [T] of `objective.geometric_betas`, nats per half a squared grey level.
  """
  return (betas**-0.5 / 255).astype(np.float32)

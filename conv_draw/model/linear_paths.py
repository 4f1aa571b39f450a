"""Linear paths past the LSTMs, beyond the paper: z_t also reads the error and paints linearly.

Of the s x s pixels of a cell, with e their error eps_t and r their means on the canvas, all in
grey levels, and for each iteration and latent map a width w, in grey levels:

  mean of q_t  += (e A_t) / w
  r            += (w z_t) B_t, before the decoder reads the canvas (6)

and the decoder reads log(1 + |z|) too (`told`). The prior reads h^d_{t-1} with weights of iteration
t, besides those that all share, and what has been stored of a component so far, of it alone
(`Memory`). Within an iteration the cells are a chessboard (`in_halves`): the prior of the second
half also sees z_t of the first one, which are all the cells that touch it.

A_t and B_t begin as principal components of the data's cells (`begin`), so that the model begins as
a transform coder, from which training moves away; what comes first comes in turns of cells
(`in_turn`). Which components an iteration has, and how finely, is what pays best at its price: of
all refinements of all components, those come first that take most error away for their nats
(reverse water-filling). A component's next bins are a third as wide, so that they fit into the ones
before.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

GREY = 255.0  # grey levels: 1 of a pixel

# Scales that make steps of an optimiser, alike for all parameters, suit them: of what LSTMs read
# and write beside the linear paths, and add to means of q_t; and of these paths, which are good
# from the start.
ERROR_SEEN, CANVAS_SEEN, WRITTEN, POSTERIOR, MATRIX = 8.0, 4.0, 0.02, 0.1, 0.02

CONTEXT = 3.0  # likewise, of what the prior reads of `Memory`
FEATURES = 7  # that it reads of each latent: `context`
LARGEST_TOLD = 4.0  # of latents, in bins: `told`
SEEN_BESIDE = 0.3  # likewise, of what the prior of the second half reads of the first
HALVES = 2

WIDTHS = tuple(486.0 / 3**i for i in range(6))  # of bins, in grey levels
# How much of what a cell paints in these the cells around it paint too, until it is their turn.
SPREAD = np.array([
    [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]],  # between others: the mean of these
    [[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]],
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]], np.float32)
TURNS = 3  # iterations that share what comes first: `in_turn`
NEVER = -6.0  # log sigma of the prior of latents that are not `of_use`: in bins, they are surely 0
QUANTILES = 2**14  # points that stand for a distribution
LEAST_SIGMA = 0.15  # of a prior, in bins: surer ones save nothing, and cost the more if they err


class Memory(NamedTuple):
  """What the latents so far say, as a coder of transforms would look at it.

  It consists of whole numbers times widths, and so is the same wherever it is computed.
  """

  components: jax.Array  # [B, h, w, D] sums of w z by component, in grey levels
  activity: jax.Array  # [B, h, w, 1] of |z|, the last iterations counting most


FORGET = 0.7  # of the activity, at every iteration


def nothing(batch, size, cell):
  """`Memory` before the first iteration, of D = `cell` components."""
  return Memory(jnp.zeros((batch, *size, cell)), jnp.zeros((batch, *size, 1)))


def remember(memory, z, components, width):
  """`Memory` with z_t [B, h, w, Z], of components int32 [Z] in grey levels' widths [Z]."""
  z = jax.lax.stop_gradient(z)  # latents need not please the priors of later ones
  added = jnp.matmul(z * _of_maps(width), _choice(memory, components), precision='highest')
  return Memory(
      memory.components + added,
      FORGET * memory.activity + abs(z).sum(-1, keepdims=True))


def _of_maps(values):
  """[Z] -> [1, 1, 1, Z], one for each of maps [B, h, w, Z]."""
  return values[None, None, None]


def _choice(memory, components):
  """[Z, D] of 0 and 1, exact in products: quicker to multiply by than to gather and scatter."""
  return jax.nn.one_hot(components, memory.components.shape[-1])


def context(prior, memory, weights, components, width):
  """A prior with what `Memory` says of its latents and of the cells around.

  Args:
    weights: [FEATURES, Z], of iteration t: of log sigma five, of the mean two.
    components: int32 [Z], which the latents are of.
    width: [Z] in grey levels.
  """
  stored = jnp.matmul(
      memory.components, _choice(memory, components).T, precision='highest') / _of_maps(width)
  around = _around(stored)
  rows = CONTEXT * weights
  everywhere = memory.activity.mean((1, 2), keepdims=True)  # how much there is to be seen at all
  log_sigma = sum(_of_maps(row) * jnp.log1p(feature) for row, feature in zip(
      rows, (abs(stored), _around(abs(stored)), memory.activity, _around(memory.activity),
             everywhere), strict=False))
  mean = sum(_of_maps(row) * jnp.clip(feature, -2, 2) for row, feature in zip(
      rows[5:], (stored, around - stored), strict=True))
  return prior._replace(mean=prior.mean + mean, log_sigma=prior.log_sigma + log_sigma)


def _around(maps):
  """The mean of the eight cells around, those outside being 0."""
  h, w = maps.shape[1:3]
  padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = padded[:, :h] + padded[:, 1 : h + 1] + padded[:, 2:]
  return (rows[:, :, :w] + rows[:, :, 1 : w + 1] + rows[:, :, 2:] - maps) / 8


def in_halves(size):
  """bool [2, h, w, 1]: the black and the white cells of a chessboard, which come in that order."""
  rows, columns = np.indices(size)
  white = ((rows + columns) % HALVES == 1)[..., None]
  return np.stack([~white, white])


def beside(prior, z, weights):
  """The prior of the second half of the cells, with what the first half says.

  Args:
    z: [B, h, w, Z] z_t of the first half, 0 elsewhere.
    weights: [8 Z, 2 Z], of iteration t: of the four cells that touch one, z and log(1 + |z|).
  """
  h, w = z.shape[1:3]
  z = jax.lax.stop_gradient(z)  # as in `remember`
  padded = jnp.pad(told(z), ((0, 0), (1, 1), (1, 1), (0, 0)))
  touching = jnp.concatenate([
      padded[:, i : i + h, j : j + w] for i, j in ((0, 1), (1, 0), (1, 2), (2, 1))], -1)
  mean, log_sigma = jnp.split(jnp.matmul(touching, SEEN_BESIDE * weights), 2, -1)
  return prior._replace(mean=prior.mean + mean, log_sigma=prior.log_sigma + log_sigma)


def told(z):
  """[B, h, w, 2 Z]: z_t as the network reads it. Of a large one it matters most that it is."""
  z = jnp.clip(z, -LARGEST_TOLD, LARGEST_TOLD)
  return jnp.concatenate([z, jnp.log1p(abs(z))], -1)


def read(maps, error, matrix, width):
  """Adds to the means of q_t.

  Args:
    maps: [B, h, w, Z or 2 Z], the means first.
    error: [B, h, w, D] eps_t in [0, 1], the D = s s C values of a cell.
    matrix: [D, Z] A_t / MATRIX.
    width: [Z] in grey levels.
  """
  seen = jnp.matmul(error, matrix * (MATRIX * GREY / width)[None])
  return maps + jnp.pad(seen, ((0, 0),) * 3 + ((0, maps.shape[-1] - seen.shape[-1]),))


def paint(canvas, z, t, matrix, width):
  """Adds to the means of a canvas [B, h, w, s s, R], its first C channels.

  Args:
    z: [B, h, w, Z] z_t.
    matrix: [Z, D] B_t / MATRIX.
    width: [Z] in grey levels.
  """
  painted = jnp.matmul(_spread(z, t), matrix * (MATRIX / GREY * width)[:, None])
  painted = painted.reshape(*canvas.shape[:4], -1)
  return canvas + jnp.pad(
      painted, ((0, 0),) * 4 + ((0, canvas.shape[-1] - painted.shape[-1]),))


def _spread(z, t):
  """z_t [B, h, w, Z], in the first iterations also where it is not yet a cell's turn."""
  size = h, w = z.shape[1:3]
  weights = jnp.asarray(SPREAD)[jnp.minimum(t, TURNS - 1)]

  def around(maps, weights):
    maps = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(weights[i, j] * maps[:, i : i + h, j : j + w] for i in range(3) for j in range(3))

  # At the edge there is one of the two cells between which one lies, or one of the four.
  share = around(np.float32(in_turn(0, size))[None], SPREAD[0])
  return around(z, weights) / jnp.where(t == 0, share, 1)


def of_use(t, size, worth):
  """bool [h, w, Z]: the latents that iteration t has, the others being 0: all of the cells in turn.

  Args:
    worth: [Z] of iteration t, 0 of latents that it has no use for.
  """
  return in_turn(t, size) & (worth > 0)[None, None]


def settled(prior, use):
  """A prior that is never too sure, but surely 0 where latents are not `of_use`."""
  log_sigma = jnp.logaddexp(2 * prior.log_sigma, 2 * math.log(LEAST_SIGMA)) / 2
  return prior._replace(
      mean=prior.mean * use.astype(prior.mean.dtype)[None],
      log_sigma=jnp.where(jnp.broadcast_to(use, log_sigma.shape), log_sigma, NEVER))


def in_turn(t, size):
  """bool [h, w, 1]: the cells that iteration t is for.

  What comes first of all is much alike in cells that are neighbours, and costs less where they can
  be seen: so the first iteration is for every other cell of every other row, the second one for
  those in the middle between, the third one for the rest. All later ones are for all.
  """
  rows, columns = (n % 2 for n in np.indices(size))
  turn = np.where(rows == columns, rows, TURNS - 1)[..., None]
  return (turn == t) | (t >= TURNS)


def seen(canvas):
  """A canvas as the decoder reads it."""
  return CANVAS_SEEN * (canvas - 0.5)


def cells(images, stride):
  """uint8 [B, H, W, C] -> [N, D] uint8: the whole cells of s x s pixels in them."""
  b, height, width, c = images.shape
  h, w = height // stride, width // stride
  cut = images[:, : h * stride, : w * stride].reshape(b, h, stride, w, stride, c)
  return cut.swapaxes(2, 3).reshape(-1, stride * stride * c)


def begin(blocks, betas, latents):
  """What the parameters begin as.

  Args:
    blocks: [N, D] uint8, cells of images of the data.
    betas: [T] of `objective.betas`: what an iteration may cost, the nats that half a squared grey
      level is worth; so an error of a bin is worth beta w^2 / 2. T > 3.
    latents: Z.
  Returns:
    {name of the parameter: array}, without that of what the prior reads.
  """
  blocks = blocks.astype(np.float64) - GREY / 2  # mid grey, where the canvas begins
  variances, vectors = np.linalg.eigh(blocks.T @ blocks / len(blocks))
  # The large ones first; of fewer blocks than values some are 0, or by rounding less.
  variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
  t, d = len(betas), blocks.shape[1]
  matrix, width, used = np.zeros((t, d, latents)), np.ones((t, latents)), np.zeros((t, latents))
  log_sigma, component = np.zeros((t, latents)), np.zeros((t, latents))
  left = blocks @ vectors
  groups = schedule(variances, betas[TURNS - 1 :], latents)
  for i, group in enumerate([groups[0]] * (TURNS - 1) + groups):
    n, components = len(group), [component for component, _ in group]
    component[i, :n], used[i, :n] = components, 1
    matrix[i, :, :n], width[i, :n] = vectors[:, components], [size for _, size in group]
    bins = np.rint(left[:, components] / width[i, :n])
    if i >= TURNS - 1:
      left[:, components] -= bins * width[i, :n]
    # Where most is 0, the deviation says too little of the rest, and too much of it.
    log_sigma[i, :n] = np.log(np.maximum(np.sqrt((bins**2).mean(0)), LEAST_SIGMA))
  return {
      'linear_read': matrix / MATRIX, 'linear_paint': matrix.swapaxes(1, 2) / MATRIX,
      'linear_width': width, 'linear_component': component,
      'linear_worth': used * np.asarray(betas)[:, None] * width**2 / 2,
      'linear_prior_bias': np.concatenate([np.zeros_like(log_sigma), log_sigma], -1)}


def schedule(variances, betas, latents):
  """What each iteration refines: a list of T lists of (component, width), the best ones first.

  Components are taken for Laplacian. An iteration takes all refinements that pay at its price and
  for which there is room; the others have to wait.

  Args:
    variances: [D] in squared grey levels.
    betas: [T], ascending, as of `begin`.
    latents: Z, how many an iteration has room for.
  """
  u = (np.arange(QUANTILES) + 0.5) / QUANTILES
  unit = np.sign(u - 0.5) * -np.log1p(-2 * abs(u - 0.5)) / math.sqrt(2)
  refinements = []  # (worth: squared grey levels per nat, component, width)
  for component, variance in enumerate(variances):
    nats, error, least = 0.0, variance, math.inf
    points = [(*_of_bins(unit * math.sqrt(variance), width), width) for width in WIDTHS]
    while any(n > nats + 1e-4 and e < error for n, e, _ in points):
      worth, n, e, width = max(
          ((error - e) / (n - nats), n, e, width)
          for n, e, width in points if n > nats + 1e-4 and e < error)
      least = min(least, worth)
      refinements.append((least, component, width))
      nats, error = n, e
  refinements.sort(reverse=True)
  groups = []
  for beta in betas:
    group, later = {}, []
    for worth, component, width in refinements:
      pays = worth >= 2 / beta
      if pays and (component in group or len(group) < latents):
        group[component] = width  # of two, the finer one at once
      else:
        later.append((worth, component, width))
    groups.append(list(group.items()))
    refinements = later
  return groups


def _of_bins(points, width):
  """(nats, mean squared error) of equally likely points in bins, decoded to their middles."""
  bins = np.rint(points / width)
  _, counts = np.unique(bins, return_counts=True)
  share = counts / len(points)
  return -(share * np.log(share)).sum(), ((points - bins * width) ** 2).mean()

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.model import linear_paths, objective, restoration
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.pixels import SquaredErrorPixels

STRIDE, T, Z = 4, 7, 6
SIZE = (14, 18)  # cells at the edges are cut


@functools.cache
def photos(count=40):
  """Smooth colours with some edges, [count, *SIZE, 3]."""
  rng = np.random.default_rng(0)
  steps = rng.normal(0, 6, (count, *SIZE, 1)) + rng.normal(0, 1.5, (count, *SIZE, 3))
  return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


@functools.cache
def begun():
  """(model, parameters with linear paths that have begun)."""
  model = ConvDraw(
      channels=3, pixels=SquaredErrorPixels(), iterations=T, features=4, latents=Z, kernel=3,
      stride=STRIDE, image_kernel=STRIDE, posterior='rounded', linear=True, prefixes=True,
      restoration=4)
  key = jax.random.key(0)
  params = jax.jit(model.init)(key, key, photos()[:1])
  betas = objective.betas(1e-3, 0.3, T)
  parts = linear_paths.begin(linear_paths.cells(photos(), STRIDE), betas, Z)
  return model, {'params': {**params['params'], **jax.tree.map(jnp.float32, parts)}}


@functools.cache
def stirred():
  """`begun`, but with priors that read all that they can read."""
  model, params = begun()
  keys = iter(jax.random.split(jax.random.key(2), 9))
  change = {
      name: 0.1 * jax.random.normal(next(keys), params['params'][name].shape)
      for name in ('linear_beside', 'linear_context', 'linear_prior', 'prior', 'posterior')}
  last = f'restoration_kernel_{restoration.KERNELS}'
  change[last] = 0.005 * jax.random.normal(next(keys), params['params'][last].shape)
  return model, {'params': {**params['params'], **change}}


@functools.cache
def inferred(**change):
  model, params = begun()
  return jax.jit(model.clone(**change).apply)(params, jax.random.key(1), photos())


def test_begins_as_a_transform_coder():
  """Every prefix shows more, the first ones of smooth pictures already most of what there is."""
  psnr = -10 * np.log10(inferred().squared_error.sum(1) / photos().size)
  assert (np.diff(psnr) > 0).all() and psnr[0] > 14 and psnr[-1] > psnr[0] + 8


def test_prefixes_cost_what_models_of_fewer_iterations_would():
  """L^x(r_t), and the error of its mean."""
  model, params = begun()
  canvas = jax.jit(functools.partial(model.apply, method='reconstruct'))
  last = inferred().canvas
  np.testing.assert_allclose(
      inferred().prefix_nats[-1], model.pixels.cost(photos() / 255, last).sum((1, 2, 3)), rtol=1e-5)
  error = ((photos() / 255 - np.clip(last, 0, 1)) ** 2).sum((1, 2, 3))
  np.testing.assert_allclose(inferred().squared_error[-1], error, rtol=1e-4)
  # With nothing stored and nothing generated, the canvas begins at mid grey.
  assert canvas(params, jax.random.key(0), photos(), 0, 0.0).shape == last.shape


def test_the_progressive_cost_weighs_prefixes_by_their_share():
  terms = objective.elbo(begun()[0], photos(), inferred())
  betas = objective.betas(0.01, 0.25, T)
  assert betas[0] == pytest.approx(0.01) and betas[-1] == pytest.approx(0.25)
  np.testing.assert_allclose(betas[1:] / betas[:-1], (0.25 / 0.01) ** (1 / (T - 1)))
  kl = np.asarray(terms.kl_nats).sum(1)
  costs = np.array([kl[: t + 1].sum(0) + betas[t] * terms.prefix_nats[t] for t in range(T)])
  found = objective.progressive(terms, betas)
  np.testing.assert_allclose(found.mean(), costs.mean(), rtol=1e-5)
  # 1 % more of the first prefix alone costs as much as 1 % more of the last one.
  mean_cost = lambda factors: objective.progressive(terms._replace(
      kl_nats=0 * terms.kl_nats, prefix_nats=factors[:, None] * costs / betas[:, None]),
      betas).mean()
  gradient = jax.grad(mean_cost)(jnp.ones(T))
  np.testing.assert_allclose(gradient, costs.mean() / T, rtol=1e-4)


def test_thrift_saves_more_than_it_costs():
  """At its own price of an error in bins, the sum of both is less than by the nearest bins."""
  price = 1.0
  plain, thrifty = inferred(), inferred(price=price)
  rate = lambda inference: float(inference.kl_nats.sum())
  assert rate(thrifty) < 0.98 * rate(plain)
  assert thrifty.squared_error[-1].sum() < 1.6 * plain.squared_error[-1].sum()


def test_the_second_half_sees_the_first_one_and_not_the_other_way_round():
  model, params = stirred()
  size, t = SIZE, linear_paths.TURNS
  weights = model.apply(params, size, method='prepare')
  state = model.apply(params, 1, size, method='initial_state')
  cells = (4, 5)
  first, second = linear_paths.in_halves(cells)
  assert (first ^ second).all() and first[0, 0] and second[0, 1] and second[1, 0]

  @jax.jit
  def priors(z):
    seen = []
    def draw(t, layer, posterior, prior):
      seen.append(prior)
      return z
    model.apply(params, weights, t, size, None, state, draw, method='iterate')
    return seen

  zeros, changed = np.zeros((1, *cells, Z), np.float32), np.zeros((1, *cells, Z), np.float32)
  changed[0, 1, 1] = 2.0  # of the first half
  changed[0, 1, 2] = 3.0  # of the second
  before, after = priors(zeros), priors(changed)
  assert len(before) == linear_paths.HALVES
  np.testing.assert_array_equal(before[0].mean, after[0].mean)
  moved = (abs(after[1].mean - before[1].mean) > 1e-4).any(-1)[0] & second[..., 0]
  for row, column in ((0, 1), (1, 0), (1, 2), (2, 1)):  # what touches the first
    assert moved[row, column]
  # What has been stored of a component is known of these cells too, but of no others.
  assert not moved[3].any() and not moved[:, 4].any()


def test_what_comes_first_comes_in_turns():
  turns = np.stack([linear_paths.in_turn(t, (5, 4))[..., 0] for t in range(linear_paths.TURNS)])
  np.testing.assert_array_equal(turns.sum(0), 1)
  assert turns[0].sum() == 6 and turns[1].sum() == 4
  assert linear_paths.in_turn(linear_paths.TURNS, (5, 4)).all()


def test_between_the_first_cells_lies_their_mean():
  z = np.zeros((1, 5, 4, 1), np.float32)
  z[0, ::2, ::2, 0] = [[1, 3], [5, 7], [9, 11]]
  spread = np.asarray(linear_paths._spread(z, 0))[0, ..., 0]
  np.testing.assert_allclose(spread, [
      [1, 2, 3, 3], [3, 4, 5, 5], [5, 6, 7, 7], [7, 8, 9, 9], [9, 10, 11, 11]])
  np.testing.assert_allclose(linear_paths._spread(z, 2), z)


@pytest.mark.parametrize('latents', [1, 8, 200])
def test_the_schedule_refines_what_pays_first(latents):
  variances = np.geomspace(1e5, 1, 30)
  betas = objective.betas(1e-3, 1.0, 9)
  groups = linear_paths.schedule(variances, betas, latents)
  assert len(groups) == len(betas) and all(len(group) <= latents for group in groups)
  assert groups[0][0][0] == 0  # the largest component comes first
  finest = {}
  for group in groups:
    for component, width in group:
      assert width < finest.get(component, np.inf)
      finest[component] = width
  if latents == 200:  # what pays is taken at once: components of more variance at least as finely
    widths = [finest.get(c, np.inf) for c in range(30)]
    assert widths == sorted(widths) and widths[0] < 10 and widths[-1] == np.inf

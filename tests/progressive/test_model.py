import functools

import jax
import numpy as np

from conv_draw.progressive import context, transform
from conv_draw.progressive import weights as weights_lib
from tests.progressive.small import SIZE, T, Z, begun, inferred, photos, stirred


def test_begins_as_a_transform_coder():
  """Every truncation point shows more, the first ones of smooth pictures already most of it."""
  psnr = -10 * np.log10(inferred().squared_error.sum(1) / photos().size)
  assert (np.diff(psnr) > 0).all() and psnr[0] > 14 and psnr[-1] > psnr[0] + 8


def test_truncation_points_cost_what_models_of_fewer_iterations_would():
  """L^x(r_t), and the error of its mean."""
  model, params = begun()
  reconstruct = jax.jit(functools.partial(model.apply, method='reconstruct'))
  last = inferred().canvas
  np.testing.assert_allclose(
      inferred().canvas_nats[-1], model.pixels.cost(photos() / 255, last).sum((1, 2, 3)), rtol=1e-5)
  error = ((photos() / 255 - np.clip(last, 0, 1)) ** 2).sum((1, 2, 3))
  np.testing.assert_allclose(inferred().squared_error[-1], error, rtol=1e-4)
  # With nothing stored and nothing generated, the canvas is r_0: mid grey.
  nothing = reconstruct(params, jax.random.key(0), photos(), 0, 0.0)
  np.testing.assert_array_equal(nothing, np.full(last.shape, 0.5))


def test_rdoq_saves_more_than_it_costs():
  """At its own distortion weights, the sum of both is less than with the nearest bins."""
  plain, saving = inferred(), inferred(lmbda=1.0)
  rate = lambda inference: float(inference.kl_nats.sum())
  assert rate(saving) < 0.98 * rate(plain)
  assert saving.squared_error[-1].sum() < 1.6 * plain.squared_error[-1].sum()


def test_non_anchor_cells_read_anchor_cells_and_not_the_other_way_round():
  model, params = stirred()
  t, cells = transform.INTERLACED, (4, 5)
  prepared = model.apply(params, SIZE, method='prepare')
  state = model.start(prepared, 1)
  second = context.checkerboard(cells)[1]

  @jax.jit
  def priors(z):
    return [model.prior(prepared, t, 0, i, state, [z]) for i in range(model.coding_passes)]

  zeros, changed = np.zeros((1, *cells, Z), np.float32), np.zeros((1, *cells, Z), np.float32)
  changed[0, 1, 1] = 2.0  # an anchor cell
  changed[0, 1, 2] = 3.0  # not
  before, after = priors(zeros), priors(changed)
  np.testing.assert_array_equal(before[0].mean, after[0].mean)
  moved = (abs(after[1].mean - before[1].mean) > 1e-4).any(-1)[0] & second[..., 0]
  for row, column in ((0, 1), (1, 0), (1, 2), (2, 1)):  # what touches the first
    assert moved[row, column]
  # What has been stored of a coefficient is known of these cells too, but of no others.
  assert not moved[3].any() and not moved[:, 4].any()


def test_roles_say_what_decoding_reads():
  model, params = stirred()
  weigh = np.random.default_rng(0).normal(size=(3, *SIZE, 3))

  @jax.jit
  @jax.grad
  def gradient(params):
    return (weigh * model.apply(params, jax.random.key(0), 3, SIZE, method='sample')).sum()

  assert params['params'].keys() == gradient(params)['params'].keys()
  for name, value in gradient(params)['params'].items():
    if np.any(value):
      assert model.role((name,)).used_by != weights_lib.INFERENCE, name
  assert model.role(('linear_read',)).used_by == weights_lib.INFERENCE


def test_no_parameter_is_of_an_encoder():
  """The analysis transform stands for equations (2) and (3)."""
  _, params = begun()
  assert not [name for name in params['params']
              if name.startswith('encoder') or name in ('posterior', 'posterior_bias')]
  assert inferred().kl_nats.shape == (T, 1, len(photos()))

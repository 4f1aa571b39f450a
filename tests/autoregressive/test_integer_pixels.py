import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.autoregressive import integer_mixture, integer_pixels, local_pixels
from conv_draw.autoregressive import integer_tables as tables
from conv_draw.autoregressive.integer_pixels import IntegerPixels, round_kernel
from conv_draw.errors import UserError
from conv_draw.workdir import config as config_lib
from experiments import cifar10_lossless

COLOUR = IntegerPixels(3, 2, 16, 1, mixtures=3)
GREY = IntegerPixels(1, 1, 8, 1, mixtures=2)
HEADS = pytest.mark.parametrize('head', [COLOUR, GREY], ids=['colour', 'grey'])
SIZE = (6, 7)


def smooth(head, count=2, seed=0):
  """[count, *SIZE, C] grey values, neighbours alike."""
  steps = np.random.default_rng(seed).normal(0, 8, (count, *SIZE, head.channels))
  return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


@functools.cache
def params_of(head):
  images = smooth(head)
  at = jnp.zeros((2, 1), int)
  init = jax.jit(functools.partial(head.init, method='numbers_at'))  # op by op it takes long
  params = init(jax.random.key(0), images, at, at)
  keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
  return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), params)


@functools.cache
def apply(head, method):
  return jax.jit(functools.partial(head.apply, method=method))


def everywhere(count=2):
  return tuple(jnp.broadcast_to(a.reshape(-1), (count, a.size)) for a in np.indices(SIZE))


def test_frequencies_of_all_values_add_up_and_none_is_0():
  rng = np.random.default_rng(0)
  k, n = 3, 50
  weights = integer_mixture.from_logits(jnp.asarray(rng.integers(-3000, 3000, (k, n)), jnp.int32))
  assert (weights.sum(0) == tables.WEIGHTS).all() and (weights >= 0).all()
  mean = jnp.asarray(rng.integers(-(2**15), 2**15, (k, n)), jnp.int32)
  scale = jnp.asarray(rng.integers(0, tables.SCALES, (k, n)), jnp.int32)
  channel = integer_mixture.Channel(weights, mean // rng.choice([1, 8, 64], (k, n)), scale)
  find, interval = jax.jit(lambda c, p: c.find(p)), jax.jit(lambda c, v: c.interval(v))
  end = jnp.zeros(n, jnp.int32)
  for value in range(256):
    start, frequency = interval(channel, jnp.full(n, value))
    np.testing.assert_array_equal(start, end)
    assert (frequency >= 1).all()
    end = start + frequency
    np.testing.assert_array_equal(find(channel, start), value)
    np.testing.assert_array_equal(find(channel, end - 1), value)
    given = channel.given(jnp.full(n, value))
    assert (given.sum(0) == tables.WEIGHTS).all() and (given >= 0).all()
  assert (end == tables.TOTAL).all()


@HEADS
def test_tables_say_what_the_mixture_means(head):
  images, (rows, columns) = smooth(head), everywhere()
  meant = apply(head, 'cost_at')(params_of(head), images, rows, columns)
  said = apply(head, 'table_cost_at')(params_of(head), images, rows, columns)
  np.testing.assert_allclose(np.exp(-said), np.exp(-meant), rtol=0.15, atol=3 / tables.TOTAL)
  likely = meant < 6
  assert likely.mean() > 0.2 and abs(said - meant)[likely].mean() < 0.01
  np.testing.assert_allclose(apply(head, 'cost')(params_of(head), images).reshape(said.shape), said)


@HEADS
def test_sums_are_exact_in_any_order_and_in_bfloat16(head):
  """The inputs of every layer permuted, which reorders all sums."""
  params, images, at = params_of(head), smooth(head), everywhere()
  plain, seen = apply(head, 'numbers_at')(params, images, *at)
  assert (plain == jnp.round(plain)).all() and abs(plain).max() > 50
  assert (seen.inputs == jnp.round(seen.inputs)).all() and abs(seen.inputs).max() <= 255
  halved = head.clone(compute_dtype=jnp.bfloat16)
  np.testing.assert_array_equal(apply(halved, 'numbers_at')(params, images, *at)[0], plain)
  order = np.random.default_rng(0).permutation(head.features)
  mixed = dict(params['params'])
  for name in ('first', 'residual_0'):
    mixed[f'{name}_kernel'] = mixed[f'{name}_kernel'][:, order]
    mixed[f'{name}_bias'] = mixed[f'{name}_bias'][order]
  for name in ('residual_0', 'last'):
    mixed[f'{name}_kernel'] = mixed[f'{name}_kernel'][order]
  np.testing.assert_array_equal(
      apply(head, 'numbers_at')({'params': mixed}, images, *at)[0], plain)


@HEADS
def test_wavefronts_draw_what_one_pixel_after_the_other_does(head):
  params = params_of(head)
  uniforms = jax.random.uniform(jax.random.key(2), (2, *SIZE, head.channels))
  total, _ = local_pixels.wavefronts(SIZE, head.horizon)
  drawn = apply(head, 'draw')(params, uniforms, jnp.zeros((2, *SIZE, head.channels)), 0, total)
  values = drawn.astype(jnp.int32).reshape(-1, head.channels).T
  starts, frequencies = apply(head, 'intervals_at')(params, drawn, *everywhere(), values)
  places = jnp.floor(uniforms * tables.TOTAL).reshape(-1, head.channels).T
  assert ((starts <= places) & (places < starts + frequencies)).all()
  assert len(np.unique(drawn)) > 10


def test_rounding_a_kernel_twice_is_rounding_it_once():
  kernel = jax.random.normal(jax.random.key(0), (400, 40)) * jnp.logspace(-3, 2, 40)
  kernel = kernel.at[0, 0].set(0.9999 * 2**-3).at[1:, 0].multiply(1e-3)  # nearly a power of two
  kernel = kernel.at[:, 1].set(jnp.where(kernel[:, 1] > 0, 0.9, -0.7))  # fewer bits fit
  once, smallest = round_kernel(kernel)
  twice, again = round_kernel(once)
  np.testing.assert_array_equal(twice, once)
  assert (again <= smallest).all()
  # Precise for its size, and not finer than the smallest.
  assert (abs(once - kernel) <= jnp.maximum(abs(kernel) / 250, smallest / 2)).all()
  numbers = np.asarray(once / smallest)
  np.testing.assert_array_equal(numbers, np.round(numbers))
  np.testing.assert_array_equal(once, once.astype(jnp.bfloat16).astype(jnp.float32))
  sums = abs(numbers).sum(0) * integer_pixels.INPUT_MAX + integer_pixels.BIAS_MAX
  assert (sums + 0.5 / smallest < 2**24).all()
  assert (abs(numbers).max(0) > 250)[2:].all() and abs(numbers[:, 1]).max() < 256


@HEADS
def test_parameters_rounded_before_say_the_same(head):
  images, at = smooth(head), everywhere()
  plain, _ = apply(head, 'numbers_at')(params_of(head), images, *at)
  once = jax.jit(integer_pixels.rounded)(params_of(head))
  for params in (once, integer_pixels.rounded(once)):
    np.testing.assert_array_equal(
        apply(head.clone(rounded=True), 'numbers_at')(params, images, *at)[0], plain)


@HEADS
def test_gradients_pass_through_the_rounding(head):
  images, at = smooth(head), everywhere()
  mean = lambda head: jax.jit(jax.grad(
      lambda params: head.apply(params, images, *at, method='cost_at').mean()))
  whole, sketch = (mean(h)(params_of(head)) for h in (head, head.clone(whole=False)))
  a, b = (np.concatenate([x.ravel() for x in jax.tree.leaves(g)]) for g in (whole, sketch))
  assert np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) > 0.8


def test_networks_whose_sums_might_not_be_exact_are_refused():
  at = jnp.zeros((2, 1), int)
  with pytest.raises(UserError, match='local.features'):
    COLOUR.clone(features=519).init(jax.random.key(0), smooth(COLOUR), at, at, method='cost_at')


def test_the_integer_network_reads_no_canvas():
  config = cifar10_lossless.get_config()
  config_lib.check(config)
  config.model.steps = 4
  with pytest.raises(UserError, match='local.numbers.* must be real with .*model.steps above 0'):
    config_lib.check(config)


@HEADS
def test_a_model_whose_sums_are_not_exact_is_no_model(head):
  once = jax.jit(integer_pixels.rounded)(params_of(head))
  assert not integer_pixels.inexact(once)
  for name, row, factor, reason in (
      ('first_kernel', 0, 1 + 2**-9, 'significant|finer'), ('last_bias', ..., 2.0**24, '24 bits'),
      ('residual_0_kernel', ..., 2.0**-16, 'finer'), ('last_kernel', 0, 2.0**20, '24 bits')):
    layer = once['params'][name].at[row].multiply(factor)
    assert re.search(reason, integer_pixels.inexact({'params': {**once['params'], name: layer}}))

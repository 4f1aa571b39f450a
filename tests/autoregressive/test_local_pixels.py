import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.autoregressive import local_pixels
from conv_draw.autoregressive.local_pixels import LocalPixels, View
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.model import pixels

COLOUR = LocalPixels(LogisticMixturePixels(17, 2), 3, 2, 8, 1, canvas_channels=6)
GREY = LocalPixels(LogisticMixturePixels(17, 2), 1, 1, 8, 1, canvas_channels=2)
BINARY = LocalPixels(pixels.BernoulliPixels(17), 1, 2, 8, 1, canvas_channels=1, position=True)
HEADS = pytest.mark.parametrize('head', [COLOUR, GREY, BINARY], ids=['colour', 'grey', 'binary'])
SIZE = (6, 7)
HEADS_AND_SIZES = pytest.mark.parametrize('head, size', [
    (COLOUR, SIZE), (GREY, SIZE), (BINARY, SIZE), (COLOUR, (1, 5)), (GREY, (4, 1))])


def images_of(head, size, count=2, seed=0):
  """[count, *size, C] grey values, and the view of a canvas."""
  rng = np.random.default_rng(seed)
  values = 16 * rng.integers(0, 2, (count, *size, 1)) if head is BINARY else (
      rng.integers(0, 17, (count, *size, head.channels)))
  canvas = rng.normal(0.5, 0.3, (count, *size, head.canvas_channels)).astype(np.float32)
  return values.astype(np.uint8), View(jnp.asarray(canvas[..., : head.channels]), canvas)


@functools.cache
def params_of(head):
  """Random ones, so large that everything that is seen counts."""
  images, view = images_of(head, (1, 1))
  params = head.init(jax.random.key(0), images, view, method='cost')
  keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
  return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(next(keys), x.shape), params)


@functools.cache
def apply(head, method):
  return jax.jit(functools.partial(head.apply, method=method))


def everywhere(size, count=2):
  rows, columns = (jnp.broadcast_to(a.reshape(-1), (count, a.size)) for a in np.indices(size))
  return rows, columns


def describe(head, images, view):
  """[B, H, W, R] of all pixels."""
  rows, columns = everywhere(SIZE)
  return np.asarray(apply(head, 'describe_at')(
      params_of(head), images, rows, columns, view)).reshape(2, *SIZE, -1)


@HEADS_AND_SIZES
def test_an_images_cost_is_that_of_its_pixels_one_after_the_other(head, size):
  images, view = images_of(head, size, count=1)
  whole = apply(head, 'cost')(params_of(head), images, view)
  # For each pixel an image of its own, in which neither it nor what comes later is known yet.
  count = size[0] * size[1]
  before = np.tri(count, k=-1, dtype=np.uint8).reshape(count, *size, 1)
  rows, columns = (a.reshape(count, 1) for a in np.indices(size))
  views = View(*(jnp.repeat(jnp.asarray(a), count, 0) for a in view))
  numbers = apply(head, 'describe_at')(params_of(head), images * before, rows, columns, views)
  cost = jax.jit(head.pixels.cost)(images[0] / 16, numbers.reshape(*size, -1))
  np.testing.assert_allclose(cost, whole[0], atol=1e-4)


@HEADS
def test_no_pixel_outside_the_neighbourhood_or_after_it_counts(head):
  images, view = images_of(head, SIZE)
  before = describe(head, images, view)
  h = head.horizon
  for at in ((2, 3), (0, 0), (5, 6), (3, 0)):
    changed = images.copy()
    changed[:, at[0], at[1]] = (changed[:, at[0], at[1]] + 16) % 32
    moved = (describe(head, changed, view) != before).any((0, 3))
    expected = np.zeros(SIZE, bool)
    for y, x in np.ndindex(SIZE):  # pixels that have `at` in their neighbourhood
      above = 1 <= y - at[0] <= h and abs(x - at[1]) <= h
      expected[y, x] = above or (y == at[0] and 1 <= x - at[1] <= h)
    np.testing.assert_array_equal(moved, expected)


@HEADS
def test_the_canvas_counts_around_a_pixel_on_all_sides(head):
  images, view = images_of(head, SIZE)
  before = describe(head, images, view)
  picture = view.picture.at[:, 2, 3].add(0.3)
  moved = (describe(head, images, view._replace(picture=picture)) != before).any((0, 3))
  y, x = np.indices(SIZE)
  np.testing.assert_array_equal(moved, (abs(y - 2) <= 2) & (abs(x - 3) <= 2))
  canvas = jnp.asarray(view.canvas).at[:, 2, 3].add(0.3)
  moved = (describe(head, images, view._replace(canvas=canvas)) != before).any((0, 3))
  np.testing.assert_array_equal(moved, (y == 2) & (x == 3))


def test_images_are_scored_in_parts(monkeypatch):
  images, view = images_of(COLOUR, SIZE)
  monkeypatch.setattr(local_pixels, 'PIXELS_AT_ONCE', 28)  # two rows; the last part is incomplete
  in_parts = COLOUR.apply(params_of(COLOUR), images, view, method='cost')
  at_once = apply(COLOUR, 'cost_at')(params_of(COLOUR), images, *everywhere(SIZE), view)
  np.testing.assert_allclose(in_parts.reshape(at_once.shape), at_once, rtol=1e-5, atol=1e-5)


@HEADS_AND_SIZES
def test_wavefronts_draw_what_one_pixel_after_the_other_does(head, size):
  images, view = images_of(head, size)
  uniforms = np.random.default_rng(1).uniform(
      size=(2, *size, head.pixels.uniforms(head.channels))).astype(np.float32)
  total, _ = local_pixels.wavefronts(size, head.horizon)
  draw, drawn = apply(head, 'draw'), jnp.zeros(images.shape)
  for first in range(0, total, 5):
    drawn = draw(params_of(head), uniforms, drawn, first, min(first + 5, total), view)
  expected = np.zeros(images.shape, np.float32)
  for y, x in np.ndindex(size):
    numbers = apply(head, 'describe_at')(
        params_of(head), expected, jnp.full((2, 1), y), jnp.full((2, 1), x), view)
    expected[:, y, x] = head.pixels.draw(numbers[:, 0], uniforms[:, y, x])
  np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize('size, horizon', [((5, 7), 1), ((5, 7), 3), ((1, 4), 2), ((6, 1), 2)])
def test_every_pixel_lies_on_one_wavefront_behind_its_neighbours(size, horizon):
  total, most = local_pixels.wavefronts(size, horizon)
  number_of = np.full(size, -1)
  for number in range(total):
    rows, columns = map(np.asarray, local_pixels.on_wavefront(number, size, horizon))
    assert len(rows) == most
    rows, columns = rows[columns >= 0], columns[columns >= 0]
    assert (number_of[rows, columns] == -1).all()
    number_of[rows, columns] = number
  assert (number_of >= 0).all()
  for y, x in np.ndindex(size):
    for dy, dx in local_pixels.neighbours(horizon):
      if 0 <= y + dy and 0 <= x + dx < size[1]:
        assert number_of[y + dy, x + dx] < number_of[y, x]


def test_brightness_needs_no_other_weights():
  """With zero weights for the reference, as a patch relative to it does not change."""
  head = LocalPixels(LogisticMixturePixels(256, 2), 1, 1, 8, 1)
  images = np.random.default_rng(0).integers(20, 60, (1, *SIZE, 1))
  params = head.init(jax.random.key(0), images, method='cost')['params']
  params['first_kernel'] = params['first_kernel'].at[4 + 3].set(0)  # after neighbours and edges
  inner = jnp.array([[2, 3]]), jnp.array([[2, 3]])
  before, after = (apply(head, 'describe_at')({'params': params}, x, *inner).reshape(2, 3, 2)
                   for x in (images, images + 100))
  np.testing.assert_allclose(after[:, 1] - before[:, 1], 100 / 255, atol=1e-5)  # means
  np.testing.assert_allclose(after[:, ::2], before[:, ::2], atol=1e-5)


@HEADS
def test_pixels_read_their_position_if_it_is_set(head):
  size, count = (9, 9), 2
  images = np.full((count, *size, head.channels), 16, np.uint8)
  view = View(jnp.ones((count, *size, head.channels)),
              jnp.ones((count, *size, head.canvas_channels)))
  at = lambda *places: jnp.array([places] * count)
  seen = apply(head, 'describe_at')(params_of(head), images, at(4, 5, 4), at(4, 4, 5), view)
  alike = np.allclose(seen[:, :1], seen[:, 1:], atol=1e-5)
  assert alike is not head.position

"""What `step_model.StepModel` promises, of each model that is one."""

import functools

import jax
import numpy as np
import pytest

from conv_draw import GaussianPixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.latents import latent_nats
from conv_draw.model.layers import Layer
from tests.progressive import small

DRAW = ConvDraw(channels=1, pixels=GaussianPixels(17), iterations=2, features=3, latents=2,
                kernel=3, winograd=False)
MODELS = {
    'gaussian': DRAW, 'two layers': DRAW.clone(upper=(Layer(2, 1, 2),)),
    'uniform': DRAW.clone(posterior='uniform'), 'progressive': None}
KEY = jax.random.key(0)


class Steps:
  """The functions of a model, compiled, with its parameters."""

  def __init__(self, name):
    if name == 'progressive':
      self.model, self.params = small.stirred()
      self.images = small.photos()[:2]
    else:
      self.model, rng = MODELS[name], np.random.default_rng(0)
      self.images = rng.integers(0, 17, (2, 5, 6, 1)).astype(np.uint8)
      shapes = jax.eval_shape(self.model.init, KEY, KEY, self.images)
      self.params = jax.tree.map(
          lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)
    self.prepared = self.prepare()
    x = np.asarray(self.model.unit_interval(self.images))
    self.image = self.jit('observe')(self.prepared, x)
    self.other_image = self.jit('observe')(self.prepared, 1 - x)
    self.start = self.jit('start', batch=2)(self.prepared)
    self.posteriors, self.update, self.canvas = map(self.jit, ('posteriors', 'update', 'canvas'))
    self.priors = {
        (layer, coding_pass): self.jit('prior', layer=layer, coding_pass=coding_pass)
        for layer in range(len(self.model.all_layers)) for coding_pass in range(self.passes(layer))}

  def passes(self, layer):
    return 1 if layer else self.model.coding_passes

  def prepare(self):
    return self.model.apply(self.params, self.images.shape[1:3], method='prepare')

  def jit(self, name, **static):
    return jax.jit(functools.partial(getattr(self.model, name), **static))

  def prior(self, t, layer, coding_pass, state, zs):
    return self.priors[layer, coding_pass](self.prepared, t, state=state, zs=zs)

  def coded(self, t, layer):
    """Bool [coding passes, h, w, Z]."""
    positions = self.model.positions(self.prepared, t, layer)
    return np.ones((1, 1, 1, 1), bool) if positions is None else np.asarray(positions)

  def iterate(self, t, state, image):
    """(the state after iteration t at temperature 0, its z_t, KL [L, B]), as a codec goes."""
    state, qs = self.posteriors(self.prepared, t, image, state)
    zs = [np.asarray(q.at(0.0)) for q in qs]
    drawn, kl_nats = [np.zeros_like(z) for z in zs], [0.0] * len(zs)
    for layer in reversed(range(len(zs))):
      for coding_pass, here in enumerate(self.coded(t, layer)):
        p = self.prior(t, layer, coding_pass, state, drawn)
        kl_nats[layer] += (latent_nats(qs[layer], p, zs[layer])[0] * here).sum((1, 2, 3))
        drawn[layer] = np.where(here, zs[layer], drawn[layer])
    return self.update(self.prepared, t, state, drawn), drawn, np.stack(kl_nats)

  @functools.cached_property
  def last(self):
    """(the last iteration t, the state before it, z_t)."""
    state = self.start
    for t in range(self.model.iterations - 1):
      state = self.iterate(t, state, self.image)[0]
    return t + 1, state, self.iterate(t + 1, state, self.image)[1]


steps_of = functools.cache(Steps)


@pytest.fixture(params=list(MODELS))
def steps(request):
  return steps_of(request.param)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def differ(a, b):
  return any(np.any(x != y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_the_iterations_composed_are_the_model(steps):
  inference = jax.jit(steps.model.apply)(steps.params, KEY, steps.images, 0.0)
  state, kl_nats = steps.start, []
  for t in range(steps.model.iterations):
    state, _, kl = steps.iterate(t, state, steps.image)
    kl_nats.append(kl)
  np.testing.assert_allclose(
      steps.canvas(steps.prepared, state), inference.canvas, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(np.stack(kl_nats), inference.kl_nats, rtol=1e-3, atol=1e-3)


def test_a_prior_reads_the_layers_above_and_the_passes_before_alone(steps):
  t, state, zs = steps.last
  for layer in range(len(zs)):
    before = np.zeros(1, bool)
    for coding_pass, here in enumerate(steps.coded(t, layer)):
      p = steps.prior(t, layer, coding_pass, state, zs)
      at = lambda p, here=here: [np.where(here, x, 0) for x in p]
      changed = [np.where(before | (i > layer), z, z + 1) for i, z in enumerate(zs)]
      same(at(p), at(steps.prior(t, layer, coding_pass, state, changed)))
      if coding_pass:
        changed = [np.where(before, z + 1, z) for z in zs]
        assert differ(at(p), at(steps.prior(t, layer, coding_pass, state, changed)))
      before = before | here
    above = [z + (i > layer) for i, z in enumerate(zs)]
    assert differ(p, steps.prior(t, layer, coding_pass, state, above)) == (layer + 1 < len(zs))


def test_the_decoder_does_not_read_the_image(steps):
  """From states that differ in what was last encoded, both halves of the codec compute the same."""
  t, state, zs = steps.last
  encoded, qs = steps.posteriors(steps.prepared, t, steps.image, state)
  other, other_qs = steps.posteriors(steps.prepared, t, steps.other_image, state)
  assert differ(qs, other_qs)
  states = [state, encoded, other]
  assert steps.model.coding_passes == 2 or differ(encoded, other)  # a model without an encoder
  for layer, coding_pass in steps.priors:
    p, *others = (steps.prior(t, layer, coding_pass, s, zs) for s in states)
    for p_of_other in others:
      same(p, p_of_other)
  ends = [steps.update(steps.prepared, t, s, zs) for s in states]
  for end in ends[1:]:
    same(steps.canvas(steps.prepared, ends[0]), steps.canvas(steps.prepared, end))
    same(*(steps.prior(0, len(zs) - 1, 0, s, zs) for s in (ends[0], end)))


def test_preparing_twice_compiles_once(steps):
  again = steps.prepare()
  structure, other = jax.tree.structure(steps.prepared), jax.tree.structure(again)
  assert structure == other
  assert hash(structure) == hash(other)
  t, state, zs = steps.last
  count = steps.update._cache_size()
  steps.update(again, t, state, zs)
  assert steps.update._cache_size() == count

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from conv_draw import BernoulliPixels
from conv_draw.build import from_config
from conv_draw.errors import UserError
from conv_draw.machine import devices
from conv_draw.model import objective
from conv_draw.model.conv_draw import Inference
from conv_draw.model.noise import image_keys
from conv_draw.training import steps
from tests.tiny import local


@pytest.fixture(scope='module')
def batch():
  return np.random.default_rng(0).integers(0, 17, (8, 8, 8, 1)).astype(np.uint8)


def run(config, batch, count, number=2):
  """(state, first metrics) after `number` steps on `count` of the simulated devices."""
  model = from_config(config, batch.shape[1:], 17)
  optimizer = steps.create_optimizer(config, model)
  state = steps.create_state(config, model, optimizer, batch.shape[1:])
  step = jax.pmap(
      functools.partial(steps.train_step, model=model, optimizer=optimizer, config=config),
      axis_name=devices.AXIS, devices=jax.devices()[:count])
  spread = jax.tree.map(lambda x: np.broadcast_to(x, (count, *x.shape)), state)
  share = batch.reshape(count, -1, *batch.shape[1:])
  spread, first = step(spread, share)
  for _ in range(number - 1):
    spread, _ = step(spread, share)
  return state, jax.tree.map(lambda x: np.asarray(x)[0], (spread, first))


def first_key(config):
  """Of step 0 before any revert."""
  return steps.random_key(config.train.seed, steps.TRAIN, 0, 0)


def test_eight_devices_update_as_one(config, batch):
  config.train.ema_decay = 0.9
  _, (one, one_metrics) = run(config, batch, 1)
  initial, (eight, eight_metrics) = run(config, batch, 8)
  assert one_metrics['loss'] == pytest.approx(float(eight_metrics['loss']), rel=1e-5)
  assert eight.step == 2
  for tree in ('params', 'ema_params'):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5),
        getattr(one, tree), getattr(eight, tree))
  moved = jax.tree.map(lambda a, b: abs(a - b).max(), initial.params, eight.params)
  assert min(jax.tree.leaves(moved)) > 0  # every parameter learns


@pytest.mark.parametrize('warmup_steps, weight', [(4, 0.25), (1, 1)])
def test_beta_and_the_kl_weight_change_the_loss_and_not_the_likelihood(
    config, batch, warmup_steps, weight):
  config.objective.update(beta=0.5, kl_warmup_steps=warmup_steps)
  _, (_, metrics) = run(config, batch, 1, number=1)
  reconstruction, kl = float(metrics['reconstruction_nats']), float(metrics['kl_nats'])
  assert metrics['nats'] == pytest.approx(reconstruction + kl, rel=1e-6)
  assert metrics['loss'] == pytest.approx(0.5 * reconstruction + weight * kl, rel=1e-6)


def test_samples_of_an_image_are_adjacent_and_have_keys_of_their_own(batch):
  keys = image_keys(jax.random.key(0), 8)
  assert steps.repeat(keys, batch, 1, 3) == (keys, batch)
  own, images = steps.repeat(keys, batch, 3, 3)
  np.testing.assert_array_equal(images.reshape(8, 3, 8, 8, 1), np.stack(3 * [batch], 1))
  # Numbers below 4 are those of the latents and the binarisation.
  taken = [jax.random.fold_in(key, number) for key in keys for number in range(4)]
  numbers = {tuple(jax.random.key_data(key).tolist()) for key in [*own, *keys, *taken]}
  assert len(numbers) == 24 + 8 + 32


def test_samples_train_the_bound_on_any_number_of_devices(config, batch):
  config.objective.update(samples=3, bound='iwae', beta=0.5)
  initial, (state, metrics) = run(config, batch, 2, number=1)
  model = from_config(config, batch.shape[1:], 17)
  key = first_key(config)
  keys, images = steps.repeat(image_keys(key, 8), batch, 3, model.iterations)
  terms = objective.elbo(model, images, jax.jit(model.apply)(initial.params, keys, images))
  assert metrics['loss'] == pytest.approx(float(objective.loss(terms, 0.5, 3, 'iwae')), rel=1e-5)
  assert metrics['nats'] == pytest.approx(float(objective.loss(terms, 1.0, 3, 'iwae')), rel=1e-5)
  assert metrics['reconstruction_nats'] == pytest.approx(
      float(terms.reconstruction_nats.mean()), rel=1e-5)
  assert metrics['kl_nats'] == pytest.approx(float(terms.kl_nats.sum((0, 1)).mean()), rel=1e-5)
  assert metrics['nats'] < objective.loss(terms, 1.0, 1, 'iwae')  # the samples differ
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize('bound', ['elbo', 'iwae'])
def test_all_samples_of_an_image_see_one_binarisation(config, bound):
  config.objective.update(samples=5, bound=bound)

  def apply(params, keys, images):  # nothing is random but the binarisation
    del keys
    canvas = jnp.broadcast_to(params['logit'], images.shape)
    return Inference(canvas, jnp.zeros((1, 1, len(images))), jnp.zeros(len(images)))

  pixels = BernoulliPixels()
  model = types.SimpleNamespace(
      channels=1, pixels=pixels, iterations=1, apply=apply, check_images=lambda images: None,
      reconstruction_nats=lambda images, inference: pixels.cost(
          images / 255, inference.canvas).sum((1, 2, 3)))
  optimizer = optax.sgd(0.0)
  params = {'logit': jnp.array(3.0)}
  zero = jnp.zeros((), jnp.int32)
  state = steps.TrainState(zero, zero, params, optimizer.init(params), None)
  step = jax.vmap(
      functools.partial(steps.train_step, model=model, optimizer=optimizer, config=config),
      axis_name=devices.AXIS)
  grey = jnp.full((1, 8, 4, 4, 1), 128, jnp.uint8)
  _, metrics = step(jax.tree.map(lambda x: x[None], state), grey)
  # If the samples of an image agree, so does the mean of their weights.
  assert metrics['nats'] == pytest.approx(float(metrics['reconstruction_nats'][0]), rel=1e-6)


def test_the_average_lags_behind_the_parameters(config, batch):
  config.train.ema_decay = 0.99
  initial, (state, _) = run(config, batch, 1, number=1)
  # At the first step the average keeps a tenth of its value.
  jax.tree.map(
      lambda a, b, mean: np.testing.assert_allclose(mean, 0.1 * a + 0.9 * b, atol=1e-6),
      initial.params, state.params, state.ema_params)


def test_clipping_bounds_the_gradient(config):
  config.train.clip_norm = 1.0
  optimizer = steps.create_optimizer(config, None)
  params = {'w': jnp.ones(3)}
  state = optimizer.init(params)
  _, state = optimizer.update({'w': jnp.full(3, 1e6)}, state, params)
  first_moment = state[1][0].mu['w']
  assert jnp.linalg.norm(first_moment) == pytest.approx(0.1, rel=1e-4)  # (1 - b1) * clip_norm


def test_learning_rate_schedule(config):
  config.train.update(
      schedule='cosine', warmup_steps=10, steps=110, learning_rate=1e-2, clip_norm=0.0)
  optimizer = steps.create_optimizer(config, None)
  params = {'w': jnp.zeros(())}
  state, sizes = optimizer.init(params), []
  update = jax.jit(optimizer.update)
  for _ in range(110):
    change, state = update({'w': jnp.ones(())}, state, params)
    sizes.append(-float(change['w']))  # Adam's step for a constant gradient is the rate itself
  assert sizes[0] == pytest.approx(0, abs=1e-6)
  assert max(sizes) == pytest.approx(1e-2, rel=1e-2) and sizes.index(max(sizes)) == 10
  assert sizes[60] == pytest.approx(5e-3, rel=1e-2)
  assert sizes[-1] < 1e-5


def test_binarisation_draws_ink_with_its_probability():
  grey = np.full((2000, 4, 4, 1), 64, np.uint8)
  grey[:, 0] = 0
  grey[:, 1] = 255
  keys = image_keys(jax.random.key(0), 2000)
  drawn = np.asarray(steps.binarise(keys, grey))
  assert set(np.unique(drawn)) == {0, 255}
  assert (drawn[:, 0] == 0).all() and (drawn[:, 1] == 255).all()
  assert (drawn[:, 2:] / 255).mean() == pytest.approx(64 / 255, abs=0.01)
  assert (drawn[0, 2:] != drawn[1, 2:]).any()


def test_purposes_and_steps_have_their_own_randomness():
  keys = {
      tuple(jax.random.key_data(steps.random_key(*numbers)).tolist())
      for numbers in [(0, 1), (0, 2), (1, 1), (0, 1, 0), (0, 1, 1), (0, 1, 0, 0)]}
  assert len(keys) == 6


def test_devices_must_divide_the_batch():
  with pytest.raises(UserError, match='train.batch_size is 12.*8 devices'):
    devices.check_batch_size('train.batch_size', 12)


def moved(config, batch):
  """Names of the parameters that two steps have changed, and of the others."""
  initial, (state, metrics) = run(local(config, pixels=5), batch, 1)
  assert np.isfinite(metrics['loss'])
  names = {True: set(), False: set()}
  jax.tree_util.tree_map_with_path(
      lambda path, a, b: names[not np.array_equal(a, b)].add(
          '/'.join(entry.key for entry in path[1:])), initial.params, state.params)
  return names[True], names[False]


@pytest.mark.parametrize('part, trains', [
    ('all', lambda name: True), ('head', lambda name: name.startswith('head')),
    ('draw', lambda name: name.startswith('draw')),
    ('decoder', lambda name: not name.startswith(('draw/encoder', 'draw/posterior')))])
def test_trainable_subsets_of_local_pixels(config, batch, part, trains):
  config.train.update(part=part, optimizer='muon')
  changed, same = moved(config, batch)
  assert changed == {name for name in changed | same if trains(name)}


def test_a_subset_of_pixels_is_scored_in_training(config, batch):
  """The same on any number of devices; its cost is an unbiased estimate of the image's."""
  config = local(config, pixels=5)
  initial, (_, one) = run(config, batch, 1, number=1)
  _, (_, eight) = run(config, batch, 8, number=1)
  assert one['loss'] == pytest.approx(float(eight['loss']), rel=1e-5)
  model = from_config(config, batch.shape[1:], 17)
  key = first_key(config)
  infer = jax.jit(model.apply, static_argnames='places')
  some = infer(initial.params, key, batch, places=5)
  assert one['nats'] == pytest.approx(float(objective.elbo(model, batch, some).nats.mean()))
  whole = infer(initial.params, key, batch).pixel_nats
  keys = jax.random.split(jax.random.key(1), 100)
  estimates = np.array([
      infer(initial.params, key, batch, places=5).pixel_nats.mean() for key in keys])
  error = float(estimates.std() / np.sqrt(len(keys)))
  assert abs(estimates.mean() - whole.mean()) < 4 * error


def test_the_auxiliary_cost_is_that_of_the_canvas(config, batch):
  config = local(config, pixels=5, auxiliary=0.5)
  config.objective.beta = 2.0
  _, (_, metrics) = run(config, batch, 1, number=1)
  model = from_config(config, batch.shape[1:], 17)
  initial = steps.create_state(
      config, model, steps.create_optimizer(config, model), batch.shape[1:])
  key = first_key(config)
  inference = jax.jit(model.apply, static_argnames='places')(
      initial.params, key, batch, places=5)
  canvas = model.draw.pixels.cost(batch / 16, inference.canvas).sum((1, 2, 3)).mean()
  assert metrics['loss'] == pytest.approx(
      float(2 * metrics['reconstruction_nats'] + metrics['kl_nats'] + 0.5 * canvas), rel=1e-5)


def test_muon_trains_the_hidden_layers_of_local_pixels(config):
  config.train.update(optimizer='muon', learning_rate=0.1, warmup_steps=0)
  optimizer = steps.create_optimizer(config, from_config(local(config), (8, 8, 1), 17))
  square = lambda: jnp.array([[1.0, 1.0], [0.0, 1.0]])
  params = {'params': {
      'head': {name: square() for name in ('first_kernel', 'residual_0_kernel', 'last_kernel')},
      'draw': {'encoder_h_d': square()}}}
  change, _ = optimizer.update(params, optimizer.init(params), params)
  # Muon's update is nearly orthogonal; Adam's has one size wherever there is a gradient.
  for name in ('first_kernel', 'residual_0_kernel'):
    update = change['params']['head'][name] / (0.1 * 0.2 * 2**0.5)
    np.testing.assert_allclose(update @ update.T, np.eye(2), atol=0.5)
  for update in (change['params']['head']['last_kernel'], change['params']['draw']['encoder_h_d']):
    np.testing.assert_allclose(update / update[0, 0], [[1, 1], [0, 1]], atol=1e-5)


def test_checkpoints_name_trainable_subsets_as_earlier_versions_do(config):
  config.train.part = 'decoder'
  model = from_config(config, (8, 8, 1), 17)
  state = steps.create_optimizer(config, model).init({'params': {'prior': jnp.zeros(2)}})
  assert set(state.inner_states) == {'train', 'keep'}

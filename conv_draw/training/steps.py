"""The training state, the optimiser, and the pure per-device steps that `jax.pmap` maps."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import config_dict

from conv_draw import build
from conv_draw.machine.devices import AXIS
from conv_draw.model import noise, objective, weights
from conv_draw.model.pixels import BernoulliPixels

# All randomness is fold_in(seed, purpose, ...), so that no two purposes share random numbers.
INITIALISE, TRAIN, EVALUATE, FIGURES = range(4)


@struct.dataclass
class TrainState:
  """The state of a training run."""

  step: Any  # int32, updates done
  reverts: Any  # int32, reverted spikes; changes the data and the noise of later steps
  params: Any
  opt_state: Any
  ema_params: Any  # None without averaging

  @property
  def params_to_use(self) -> Any:
    """The parameters for everything but training: the moving average if there is one."""
    return self.params if self.ema_params is None else self.ema_params


def random_key(seed: int, purpose: int, *numbers: int) -> jax.Array:
  """fold_in(seed, purpose, numbers...)."""
  return functools.reduce(jax.random.fold_in, (purpose, *numbers), jax.random.key(seed))


def create_optimizer(
    config: config_dict.ConfigDict, model: Any) -> optax.GradientTransformation:
  """Adam (section 4) or Muon, with the schedule, clipping and subset of `config.train`."""
  t = config.train
  if t.schedule == 'constant':
    schedule = optax.schedules.constant_schedule(t.learning_rate)
  else:
    schedule = optax.schedules.cosine_decay_schedule(
        t.learning_rate, max(1, t.steps - t.warmup_steps))
  if t.warmup_steps:
    warmup = optax.schedules.linear_schedule(0.0, t.learning_rate, t.warmup_steps)
    schedule = optax.schedules.join_schedules([warmup, schedule], [t.warmup_steps])
  clip = optax.clip_by_global_norm(t.clip_norm) if t.clip_norm > 0 else optax.identity()
  if t.optimizer == 'muon':
    optimizer = optax.contrib.muon(
        schedule, consistent_rms=0.2,  # the size of Adam's updates
        adam_b2=0.99, muon_weight_dimension_numbers=functools.partial(_muon_dimensions, model))
  else:
    optimizer = optax.adam(schedule)
  optimizer = optax.chain(clip, optimizer)
  if t.part == 'all':
    return optimizer
  return optax.multi_transform(
      {'train': optimizer, 'keep': optax.set_to_zero()}, functools.partial(_labels, model, t.part))


def _by_role(model, params, choose):
  """A tree like `params` of `choose(role)`, with each parameter's `weights.Role`."""
  def one(path, _):
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    return choose(model.role(names[1:]))

  return jax.tree_util.tree_map_with_path(one, params)


def _muon_dimensions(model, params):
  """Which axes Muon treats as a matrix; None for parameters that Adam trains."""
  return _by_role(model, params, lambda role: role.matrix and
                  optax.contrib.MuonDimensionNumbers(*role.matrix))


def _labels(model, part, params):
  """A tree of 'train' for the trainable subset `part` (not 'all') and 'keep' for the rest.

  'decoder' selects the parameters that inference does not use, which section 3 of the paper
  retrains. The quantisation steps `posterior_log_sigma` stay as the encoder was trained with them.
  """
  trained = lambda role: (
      role.used_by == weights.GENERATION if part == 'decoder' else role.subset == part)
  return _by_role(model, params, lambda role: 'train' if trained(role) else 'keep')


def _kept_constant(model, part, params):
  """`params`, with gradients stopped outside of the trainable subset, so that none are computed."""
  if part == 'all':
    return params
  return jax.tree.map(
      lambda label, value: value if label == 'train' else jax.lax.stop_gradient(value),
      _labels(model, part, params), params)


def create_state(
    config: config_dict.ConfigDict, model: Any, optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int]) -> TrainState:
  """The initial `TrainState` for images of shape (H, W, C)."""
  key = random_key(config.train.seed, INITIALISE)
  params = jax.jit(model.init)(key, key, jnp.zeros((1, *image_shape), jnp.uint8))
  ema_params = params if config.train.ema_decay else None
  zero = jnp.zeros((), jnp.int32)
  return TrainState(zero, zero, params, optimizer.init(params), ema_params)


def binarise(keys: jax.Array, images: jax.Array) -> jax.Array:
  """Images [B, ...] of 0 and 255, drawn with probability grey value / 255 of 255 per pixel."""
  draw = lambda key, image: jax.random.bernoulli(key, image.astype(jnp.float32) / 255)
  return jax.vmap(draw)(keys, images).astype(jnp.uint8) * 255


def repeat(
    keys: jax.Array, images: jax.Array, samples: int, iterations: int,
) -> tuple[jax.Array, jax.Array]:
  """Keys and images for k samples of the latents per image, those of an image adjacent.

  Args:
    keys: [B], one per image.
    images: [B, ...].
    samples: k.
    iterations: T, of the model.
  Returns:
    ([B k] keys, [B k, ...] images); unchanged if k = 1.
  """
  if samples == 1:
    return keys, images
  numbers = noise.sample(iterations, jnp.arange(samples))
  fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
  return fold(keys, numbers).reshape(-1), jnp.repeat(images, samples, 0)


def loss_and_gradients(
    state: TrainState, images: jax.Array, *, model: Any, config: config_dict.ConfigDict,
) -> tuple[jax.Array, Any, objective.Elbo]:
  """(loss, gradients, terms) of one training step.

  Apart from rounding, loss and gradients do not depend on the number of devices.

  Args:
    state: the same on every device.
    images: [B / devices, H, W, C] uint8.
    model, config: static.
  Returns:
    The loss, a scalar in nats per image, and gradients of the parameters, both averaged over the
    whole batch; the terms at beta = 1 of this device's [B / devices * samples] entries.
  """
  share = images.shape[0]
  key = random_key(config.train.seed, TRAIN)
  key = jax.random.fold_in(jax.random.fold_in(key, state.reverts), state.step)
  # An image's noise depends on its position in the batch, not on the number of devices.
  places = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(places)
  if isinstance(model.pixels, BernoulliPixels):
    number = noise.binarisation(model.iterations)
    images = binarise(jax.vmap(lambda key: jax.random.fold_in(key, number))(keys), images)
  o = config.objective
  keys, images = repeat(keys, images, o.samples, model.iterations)

  def loss_fn(params):
    params = _kept_constant(model, config.train.part, params)
    inference = model.apply(params, keys, images, **build.while_training(config))
    terms = objective.elbo(model, images, inference)
    return build.loss(config, terms, inference, state.step, AXIS), terms

  (loss, terms), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
  return *jax.lax.pmean((loss, gradients), AXIS), terms


def train_step(
    state: TrainState, images: jax.Array, *, model: Any,
    optimizer: optax.GradientTransformation, config: config_dict.ConfigDict,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One update with this device's share of the batch.

  Args:
    state: the same on every device.
    images: [B / devices, H, W, C] uint8.
    model, optimizer, config: static.
  Returns:
    (new state, metrics): scalars in nats per image, averaged over the whole batch and measured
    before the update. 'nats' is the loss at beta = 1; 'reconstruction_nats' and 'kl_nats' are
    means over all samples.
  """
  loss, gradients, terms = loss_and_gradients(state, images, model=model, config=config)
  o = config.objective
  with jax.numpy_dtype_promotion('standard'):  # Optax raises floats to the power of a count
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema_params = state.ema_params
  if ema_params is not None:
    # The decay grows from 0.1, so that the average forgets the initialisation.
    decay = jnp.minimum(config.train.ema_decay, (1 + state.step) / (10 + state.step))
    ema_params = optax.incremental_update(params, ema_params, 1 - decay)
  metrics = jax.lax.pmean({
      'nats': objective.loss(terms, 1.0, o.samples, o.bound),
      'reconstruction_nats': terms.reconstruction_nats.mean(),
      'kl_nats': terms.kl_nats.sum((0, 1)).mean(),
  }, AXIS)
  metrics |= {'loss': loss, 'gradient_norm': optax.tree.norm(gradients)}
  return TrainState(state.step + 1, state.reverts, params, opt_state, ema_params), metrics


def eval_step(
    params: Any, images: jax.Array, indices: jax.Array, sample: jax.Array, *, model: Any,
    seed: int,
) -> tuple[objective.Elbo, jax.Array | None]:
  """(terms, squared errors) of this device's share of a batch.

  Args:
    params: the same on every device.
    images: [B / devices, H, W, C] uint8.
    indices: [B / devices] positions in the split, which select the noise.
    sample: number of the draw of the latents, which selects the noise too.
    model, seed: static.
  Returns:
    (the terms of each image, [T, B / devices] squared errors of the images of r_t; None unless the
    model is embedded).
  """
  key = jax.random.fold_in(random_key(seed, EVALUATE), sample)
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(indices)
  inference = model.apply(params, keys, images)
  return (objective.elbo(model, images, inference),
          inference.squared_error if model.embedded else None)

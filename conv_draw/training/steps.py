"""The pure per-device steps that `jax.pmap` maps: TrainState, train_step, eval_step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.machine.devices import AXIS
from conv_draw.model import noise, objective, weights
from conv_draw.model.pixels import BernoulliPixels

SOME_RESTORED = 2  # prefixes of each image, in a step of a model with `restoration`

# All randomness is fold_in(seed, purpose, ...): no two purposes share a stream.
INITIALISE, TRAIN, EVALUATE, FIGURES = range(4)


@struct.dataclass
class TrainState:
  """All that a training run is, besides its configuration."""

  step: Any  # int32, updates done
  reverts: Any  # int32, how often a spike was reverted; moves data and RNG on
  params: Any
  opt_state: Any
  ema_params: Any  # None without averaging

  @property
  def params_to_use(self):
    """The parameters that everything but training itself uses: the EMA if there is one."""
    return self.params if self.ema_params is None else self.ema_params


def random_key(seed, purpose, *numbers):
  """fold_in(seed, purpose, numbers...)."""
  return functools.reduce(jax.random.fold_in, (purpose, *numbers), jax.random.key(seed))


def create_optimizer(config):
  """Adam (section 4) or Muon, with the learning-rate schedule and clipping of `config.train`."""
  t = config.train
  if t.schedule == 'constant':
    schedule = optax.schedules.constant_schedule(t.learning_rate)
  elif t.schedule == 'cosine':
    schedule = optax.schedules.cosine_decay_schedule(
        t.learning_rate, max(1, t.steps - t.warmup_steps))
  else:
    raise ValueError(f'no schedule {t.schedule!r}: there are "constant" and "cosine"')
  if t.warmup_steps:
    warmup = optax.schedules.linear_schedule(0.0, t.learning_rate, t.warmup_steps)
    schedule = optax.schedules.join_schedules([warmup, schedule], [t.warmup_steps])
  clip = optax.clip_by_global_norm(t.clip_norm) if t.clip_norm > 0 else optax.identity()
  if t.optimizer == 'muon':  # updates as large as Adam's
    optimizer = optax.contrib.muon(
        schedule, consistent_rms=0.2, adam_b2=0.99, muon_weight_dimension_numbers=_of_muon)
  else:
    optimizer = optax.adam(schedule)
  optimizer = optax.chain(clip, optimizer)
  if t.part == 'all':
    return optimizer
  return optax.multi_transform(
      {'train': optimizer, 'keep': optax.set_to_zero()}, functools.partial(_labels, t.part))


def _kept_constant(part, params):
  """`params`, without gradients of those that a `train.part` keeps: they need not be computed."""
  if part == 'all':
    return params
  return jax.tree.map(
      lambda label, value: value if label == 'train' else jax.lax.stop_gradient(value),
      _labels(part, params), params)


def _of_muon(params):
  """What Muon needs to know of its parameters, and None for all others.

  Its are the kernels that lead to hidden units: of local pixels; of a recurrence alone, the LSTMs'
  and those of a restoration.
  (It asks again with its own alone, the others left out, which are no leaves then.)
  """
  def dimensions(path, _):
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    if 'head' in names:
      mine = names[-1].endswith('_kernel') and names[-1] != 'last_kernel'
      return optax.contrib.MuonDimensionNumbers() if mine else None
    if 'draw' in names or not (
        weights.is_of_lstm(names[-1]) or names[-1].startswith('restoration_kernel')):
      return None
    return optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)

  return jax.tree_util.tree_map_with_path(dimensions, params)


def _labels(part, params):
  """'train' for the parameters of a `train.part` that is not 'all'; 'keep' for the rest.

  With 'decoder' those are that the generative model alone has, which section 3 retrains. Kept with
  encoders and posteriors are the widths of the bins, `posterior_log_sigma`: generation and decoding
  read them too, but they are what the encoder was trained with.
  """
  def trained(path):
    names = [entry.key for entry in path[1:]]
    if names[0] in ('draw', 'head'):  # of a `LocalDraw`
      if part in ('draw', 'head'):
        return part == names[0]
      if names.pop(0) == 'head':
        return True
    if part == 'post_filter':
      return names[0].startswith('restoration')
    return weights.role(names[0]).used_by == weights.GENERATION

  return jax.tree_util.tree_map_with_path(
      lambda path, _: 'train' if trained(path) else 'keep', params)


def create_state(config, model, optimizer, image_shape):
  """A fresh `TrainState` for images of shape (H, W, C)."""
  key = random_key(config.train.seed, INITIALISE)
  params = jax.jit(model.init)(key, key, jnp.zeros((1, *image_shape), jnp.uint8))
  ema_params = params if config.train.ema_decay else None
  zero = jnp.zeros((), jnp.int32)
  return TrainState(zero, zero, params, optimizer.init(params), ema_params)


def binarise(keys, images):
  """uint8 grey values as probabilities of 255 / 255: one draw per pixel, as 0 or 255."""
  draw = lambda key, image: jax.random.bernoulli(key, image.astype(jnp.float32) / 255)
  return jax.vmap(draw)(keys, images).astype(jnp.uint8) * 255


def repeat(keys, images, samples, iterations):
  """Keys and images of several draws of the latents per image, an image's side by side.

  Args:
    keys: [B], one per image.
    images: [B, ...].
    samples: k, how many draws.
    iterations: T, of the model.
  Returns:
    ([B k] keys, [B k, ...] images); both as they are if k = 1.
  """
  if samples == 1:
    return keys, images
  numbers = noise.sample(iterations, jnp.arange(samples))
  fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
  return fold(keys, numbers).reshape(-1), jnp.repeat(images, samples, 0)


def loss_and_gradients(state, images, *, model, config):
  """What an update of this step minimises: (loss, gradients, `objective.Elbo`).

  Neither loss nor gradients depend on how many devices the batch is divided over, but for rounding.

  Args:
    state: `TrainState`; the same on every device.
    images: [B / devices, H, W, C] uint8.
    model, config: static.
  Returns:
    loss, a scalar in nats per image, and gradients of the parameters, both averaged over the whole
    batch; the terms at beta = 1 of this device's [B / devices * samples] entries.
  """
  share = images.shape[0]
  key = random_key(config.train.seed, TRAIN)
  key = jax.random.fold_in(jax.random.fold_in(key, state.reverts), state.step)
  # An image's noise depends on its place in the batch alone, not on the number of devices.
  places = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(places)
  if isinstance(model.pixels, BernoulliPixels):
    number = noise.binarisation(model.iterations)
    images = binarise(jax.vmap(lambda key: jax.random.fold_in(key, number))(keys), images)
  o, kind = config.objective, config.model.kind
  keys, images = repeat(keys, images, o.samples, model.iterations)

  scored = {}
  if isinstance(model, LocalDraw):
    scored = {'places': config.local.pixels}
  elif kind == 'progressive' and config.progressive.post_filter:
    scored = {'some': SOME_RESTORED}

  def loss_fn(params):
    params = _kept_constant(config.train.part, params)
    terms = objective.elbo(model, images, model.apply(params, keys, images, **scored))
    minimised = terms
    if o.kl_warmup_steps:
      price = jnp.minimum(1.0, (state.step + 1) / o.kl_warmup_steps)
      minimised = terms._replace(kl_nats=price * terms.kl_nats)
    if kind == 'progressive':
      betas = objective.betas(config.progressive.first_beta, o.beta, model.iterations)
      return objective.progressive(minimised, betas, AXIS).mean(), terms
    auxiliary = config.local.auxiliary if kind == 'local' else 0.0
    return objective.loss(minimised, o.beta, o.samples, o.bound, auxiliary), terms

  (loss, terms), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
  return *jax.lax.pmean((loss, gradients), AXIS), terms


def train_step(state, images, *, model, optimizer, config):
  """One update on this device's share of the batch.

  Args:
    state: `TrainState`; the same on every device.
    images: [B / devices, H, W, C] uint8.
    model, optimizer, config: static.
  Returns:
    (new state, metrics): scalars in nats per image, averaged over the whole batch and measured
    before the update. 'nats' is the loss at beta = 1; 'reconstruction_nats' and 'kl_nats' are
    averages over all samples.
  """
  loss, gradients, terms = loss_and_gradients(state, images, model=model, config=config)
  o = config.objective
  with jax.numpy_dtype_promotion('standard'):  # Optax raises floats to the power of a count
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema_params = state.ema_params
  if ema_params is not None:
    # The first steps count less, so that the average forgets the initialisation.
    decay = jnp.minimum(config.train.ema_decay, (1 + state.step) / (10 + state.step))
    ema_params = optax.incremental_update(params, ema_params, 1 - decay)
  metrics = jax.lax.pmean({
      'nats': objective.loss(terms, 1.0, o.samples, o.bound),
      'reconstruction_nats': terms.reconstruction_nats.mean(),
      'kl_nats': terms.kl_nats.sum((0, 1)).mean(),
  }, AXIS)
  metrics |= {'loss': loss, 'gradient_norm': optax.tree.norm(gradients)}
  return TrainState(state.step + 1, state.reverts, params, opt_state, ema_params), metrics


def eval_step(params, images, indices, sample, *, model, seed):
  """Scores this device's share of a batch.

  Args:
    params: the same on every device.
    images: [B / devices, H, W, C] uint8.
    indices: [B / devices] the images' places in the split: their noise depends on nothing else.
    sample: which of several independent draws of the latents.
    model, seed: static.
  Returns:
    `objective.Elbo` of each image.
  """
  key = jax.random.fold_in(random_key(seed, EVALUATE), sample)
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(indices)
  return objective.elbo(model, images, model.apply(params, keys, images))

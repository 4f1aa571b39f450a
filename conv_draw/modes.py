"""What `launch.py --mode` can do with a run."""

import jax

from conv_draw import baselines, checkpoints, data, evaluate, figures, objective, steps, train
from conv_draw import config as config_lib
from conv_draw import metrics as metrics_lib
from conv_draw import model as model_lib
from conv_draw.errors import UserError


def run(mode, config, workdir):
  """Runs one mode; what it finds goes to stdout, how it gets on to stderr."""
  if mode == 'train':
    train.train(config, workdir)
  elif differing := [
      k for k in config_lib.differences(config_lib.load(workdir), config)
      if k.startswith('model.') or k == 'train.ema_decay']:
    raise UserError(
        f'{workdir} was trained with another {differing[0]}: leave out --config and '
        f'--config.{differing[0]} to use the stored ones')

  test_images = data.load(config.data, 'test')
  model = model_lib.from_config(config, test_images.shape[-1], test_images.levels)
  optimizer = steps.create_optimizer(config)
  like = jax.eval_shape(
      lambda: steps.create_state(config, model, optimizer, test_images.shape))
  params, step = checkpoints.restore_params(workdir, like)
  drawn = (config, model, params, test_images, workdir)
  if mode in ('train', 'evaluate'):
    _evaluate(config, model, params, step, test_images, workdir)
  if mode in ('train', 'sample', 'figures'):
    print('wrote', figures.write_samples(*drawn))
  if mode in ('train', 'reconstruct', 'figures'):
    print('wrote', figures.write_reconstructions(*drawn))


def _evaluate(config, model, params, step, images, workdir):
  """Prints the test likelihood beside the baselines' and adds it to metrics.jsonl."""
  total = min(len(images), config.evaluate.max_images or len(images))
  progress = metrics_lib.Progress(total, 0, 'image')
  result = evaluate.evaluate(config, model, params, images, progress.at)
  progress.close()
  metrics = metrics_lib.Metrics(workdir)
  metrics.write(step, 'test', evaluate.record(result, images.shape))
  metrics.close()

  k = config.evaluate.importance_samples
  bound = f'importance-weighted bound, {k} samples' if k > 1 else 'variational bound'
  print(f'{images.name}: {result.count} of {len(images)} images, {bound}, after {step} steps')
  error = objective.bits_per_dim(result.standard_error_nats, images.shape)
  _row('convolutional DRAW', result.nats, images.shape, '<',
       f' +- {error:.4f}  (reconstruction {result.reconstruction_nats:.2f}, latents '
       f'{result.kl_nats.sum():.2f}, standard error {result.standard_error_nats:.2f} nats)')
  for name, nats in _baselines(config, images):
    _row(name, nats, images.shape, ' ', f'  (all {len(images)} images)')


def _row(name, nats, shape, sign, rest=''):
  bits = objective.bits_per_dim(nats, shape)
  print(f'  {name:24} {sign} {nats:10.2f} nats  {sign} {bits:7.4f} bits/dim{rest}', flush=True)


def _baselines(config, images):
  """(name, nats per image) of the models that need no training, on the whole test split."""
  train_images = data.load(config.data, 'train')
  if config.model.likelihood == 'bernoulli':
    yield 'uniform', baselines.uniform_nats(images.shape, levels=2)
    yield 'independent pixels', baselines.bernoulli_nats(train_images, images)
    return
  yield 'uniform', baselines.uniform_nats(images.shape, images.levels)
  if baselines.gaussian_is_feasible(train_images):
    yield ('multivariate Gaussian', baselines.multivariate_gaussian_nats(train_images, images))

"""A trained run, ready to be used."""

import jax

from conv_draw import checkpoints, data, models, steps


def load(config, workdir):
  """(model, parameters to use, step, `data.Images` of the test split) of a run.

  Args:
    config: of the run; its `model` settings are those that `workdir` was trained with.
  Raises:
    UserError: no such run, or data that is missing.
  """
  images = data.load(config.data, 'test')
  model = models.from_config(config, images.shape, images.levels)
  optimizer = steps.create_optimizer(config)
  like = jax.eval_shape(lambda: steps.create_state(config, model, optimizer, images.shape))
  params, step = checkpoints.restore_params(workdir, like)
  return model, params, step, images

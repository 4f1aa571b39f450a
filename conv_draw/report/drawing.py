"""Pictures of canvases: their mean; or where pixels see their neighbours, pixels that are drawn."""

import functools

import jax
import jax.numpy as jnp

from conv_draw.autoregressive import local_pixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.machine import hosts
from conv_draw.workdir.metrics import Progress

# Diagonals that are drawn in one call, between which progress is reported.
AT_ONCE = 16


def pictures(run, canvas, keys):
  """What a run's model shows where it has come to some canvases.

  Args:
    run: a `trained.Run`; its `local.figures` says which, if there is a choice.
    canvas: [B, H, W, R].
    keys: [B], one per image, for pixels that are drawn.
  Returns:
    [B, H, W, C] in [0, 1].
  """
  model = run.model
  if not isinstance(model, LocalDraw) or (
      model.draw and run.config.local.figures == 'canvas'):
    return _mean(model)(canvas)
  (uniforms, draw), size = _draw(model), canvas.shape[1:3]
  total, _ = local_pixels.wavefronts(size, model.head.horizon)
  images = jnp.zeros((*canvas.shape[:3], model.channels))
  numbers = uniforms(run.params, keys, canvas)
  progress = Progress(total, 0, 'wavefront', hosts.primary())
  for first in range(0, total, AT_ONCE):
    last = min(first + AT_ONCE, total)
    images = draw(run.params, numbers, canvas, images, first, last)
    images.block_until_ready()
    progress.at(last)
  progress.close()
  return images / (model.pixels.grey_levels - 1)


@functools.cache
def _mean(model):
  return jax.jit(model.canvas_pixels.mean)


@functools.cache
def _draw(model):
  """The two methods that draw pixels, compiled once for each size."""
  apply = lambda method: jax.jit(functools.partial(model.apply, method=method))
  return apply('uniforms'), apply('draw_pixels')

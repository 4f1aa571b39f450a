"""Images from canvases: the mean of the pixels, or samples of the local autoregressive model."""

import functools

import jax
import jax.numpy as jnp

from conv_draw.autoregressive import local_pixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.machine import hosts
from conv_draw.workdir.metrics import Progress

# Wavefronts that are sampled in one call; progress is reported after each call.
WAVEFRONTS = 16


def pictures(run, canvas, keys):
  """Images that the model of a run makes of canvases.

  Args:
    run: a `trained.Run`. With a local autoregressive model, `local.figures` chooses between mean
      and samples.
    canvas: [B, H, W, R].
    keys: [B], one for each image, to sample pixels with.
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
  for first in range(0, total, WAVEFRONTS):
    last = min(first + WAVEFRONTS, total)
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
  """The methods `uniforms` and `draw_pixels` of the model, compiled once for each size."""
  apply = lambda method: jax.jit(functools.partial(model.apply, method=method))
  return apply('uniforms'), apply('draw_pixels')

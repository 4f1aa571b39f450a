"""The paper's figures from a trained model, as PNG files."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from conv_draw import steps

MIN_SIDE = 64  # small images are enlarged by a whole factor to at least this many pixels
LEVELS = 9  # rows of the reconstructions: values of t


def samples(config, model, params, image_size):
  """Generated images (figure 4): grid rows of uint8 images, [rows, columns, H, W, C]."""
  count = config.figures.samples
  columns = int(np.ceil(np.sqrt(count)))
  rows = -(-count // columns)
  key = steps.random_key(config.evaluate.seed, steps.FIGURES, 0)
  draw = jax.jit(
      lambda params, key: model.pixels.mean(
          model.apply(params, key, rows * columns, image_size, method='sample')))
  return _to_bytes(draw(params, key)).reshape(rows, columns, *image_size, model.channels)


def stored_groups(iterations):
  """The values of t that the reconstructions show: 0 (nothing stored) to T."""
  return np.unique(np.round(np.linspace(0, iterations, LEVELS)).astype(int))


def reconstructions(config, model, params, images, temperature):
  """Progressive reconstructions (figure 1): the originals, then t = 0..T groups stored.

  Args:
    images: `data.Images`; the first `figures.reconstructions` are shown, one a column.
    temperature: of the prior that generates what is not stored.
  Returns:
    uint8 [1 + levels, columns, H, W, C].
  """
  count = min(config.figures.reconstructions, len(images))
  chosen = np.linspace(0, len(images) - 1, count).astype(int)  # spread over the classes
  originals = images.fetch(chosen)
  keys = jax.vmap(lambda i: jax.random.fold_in(
      steps.random_key(config.evaluate.seed, steps.FIGURES, 1), i))(jnp.arange(count))
  draw = jax.jit(
      lambda params, groups: model.pixels.mean(model.apply(
          params, keys, originals, groups, temperature, method='reconstruct')))
  rows = [_to_bytes(draw(params, groups)) for groups in stored_groups(model.steps)]
  return np.stack([_to_bytes(originals / (images.levels - 1)), *rows])


def save_grid(path, grid):
  """Writes [rows, columns, H, W, C] uint8 images as one PNG, a thin line between them."""
  rows, columns, height, width, channels = grid.shape
  scale = max(1, MIN_SIDE // height)
  grid = grid.repeat(scale, 2).repeat(scale, 3)
  grid = np.pad(grid, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=128)
  picture = grid.transpose(0, 2, 1, 3, 4).reshape(
      rows * grid.shape[2], columns * grid.shape[3], channels)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  Image.fromarray(picture[..., 0] if channels == 1 else picture).save(path)


def _to_bytes(x):
  """Pixel values in [0, 1] -> uint8 0..255."""
  return np.asarray(jnp.round(255 * jnp.clip(x, 0, 1)), np.uint8)


def write_samples(config, model, params, images, workdir):
  """Writes figures/samples.png; returns the path."""
  path = os.path.join(workdir, 'figures', 'samples.png')
  save_grid(path, samples(config, model, params, images.shape[:2]))
  return path


def write_reconstructions(config, model, params, images, workdir):
  """Writes figures/reconstructions.png; returns the path."""
  path = os.path.join(workdir, 'figures', 'reconstructions.png')
  save_grid(path, reconstructions(config, model, params, images, config.figures.temperature))
  return path

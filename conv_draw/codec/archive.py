"""Folders of images to archive files and back."""

import os

import numpy as np
from PIL import Image

from conv_draw import config as config_lib
from conv_draw import data_folder, trained
from conv_draw.codec import bits_back, container
from conv_draw.codec import network as network_lib
from conv_draw.errors import UserError

SEED = 0  # of the initial bits


def write(folder, path, workdir):
  """Writes the images in `folder`, all of one size and kind, to the archive `path`.

  What was written has been decoded again before, and compared.

  Returns:
    One line that says how large the archive is.
  Raises:
    UserError: images that do not go together or with the model.
  """
  names = sorted(n for n in os.listdir(folder) if n.lower().endswith(data_folder.EXTENSIONS)
                 and not n.startswith('.')) if os.path.isdir(folder) else []
  if not names:
    raise UserError(f'{folder} holds no images ({", ".join(data_folder.EXTENSIONS)})')
  images = [data_folder.read(os.path.join(folder, name)) for name in names]
  for name, image in zip(names, images, strict=True):
    if image.shape != images[0].shape:
      raise UserError(
          f'{os.path.join(folder, name)} is {_kind(image)} where {names[0]} is {_kind(images[0])}: '
          'an archive holds images of one size and kind')
  images = np.stack(images)
  model, network, fingerprint, name = _model(workdir, images.shape[1:])
  if images.max() >= model.pixels.levels:
    raise UserError(
        f'{folder} has pixels up to {images.max()}, but the model knows {model.pixels.levels} '
        'values: use a model of 8-bit images')
  payload, initial_bits, rates = bits_back.encode(network, images, SEED)
  if not np.array_equal(bits_back.decode(network, payload, len(images), SEED), images):
    raise UserError(f'{path} was not written: it would not decode to the images in {folder}')
  count, height, width, channels = images.shape
  header = container.ArchiveHeader(
      count, width, height, channels, model.pixels.levels, initial_bits, SEED, fingerprint, name)
  data = container.write_archive(header, names, payload)
  container.write_file(path, data)
  dims = height * width * channels
  return (
      f'{path}: {count} images of {width}x{height}, {len(data):,} bytes; bits/dim: '
      f'{rates.net / dims:.4f} net, {8 * len(data) / count / dims:.4f} gross (whole file, with '
      f'{initial_bits:,} initial bits), {rates.expected / dims:.4f} expected')


def extract(path, folder, workdir):
  """Writes the images of the archive `path` into `folder`, as PNG files; overwrites none.

  Returns:
    One line that says how many there were.
  Raises:
    UserError: a damaged archive, or one of another model.
  """
  header, names, payload = container.read_archive(container.read_file(path), source=path)
  _, network, fingerprint, name = _model(
      workdir, (header.height, header.width, header.channels))
  if fingerprint != header.fingerprint:
    raise UserError(
        f'{path} was written with another model, {header.name} ({header.fingerprint.hex()}); '
        f'{workdir} has {name} ({fingerprint.hex()}): give its --workdir')
  images = bits_back.decode(network, payload, header.count, header.seed)
  paths = [os.path.join(folder, os.path.splitext(n)[0] + '.png') for n in names]
  for target in paths:
    if os.path.lexists(target) or paths.count(target) > 1:
      raise UserError(f'{target} would be overwritten: extract into an empty folder')
  os.makedirs(folder, exist_ok=True)
  for target, image in zip(paths, images, strict=True):
    Image.fromarray(image[..., 0] if header.channels == 1 else image).save(target)
  return f'{folder}: {header.count} images'


def _model(workdir, image_shape):
  """(model, `Network`, fingerprint, name) of a run, for images of shape (H, W, C)."""
  config = config_lib.load(workdir)
  config_lib.check(config)
  if config.model.kind != 'draw' or config.model.posterior not in ('gaussian', 'constant'):
    raise UserError(
        f'{workdir} is of a model that bits-back coding is not for: it takes convolutional DRAW '
        '(model.kind=draw) with Gaussian posteriors')
  model, params, _, images = trained.load(config, workdir)
  height, width, channels = image_shape
  if channels != model.channels:
    raise UserError(
        f'the images have {channels} channel(s), the model of {workdir} has {model.channels}')
  if any(not layer.stride for layer in model.all_layers) and images.shape[:2] != (height, width):
    raise UserError(
        f'the images are {width}x{height}; the model of {workdir} has fully connected layers and '
        f'takes {images.shape[1]}x{images.shape[0]} alone')
  network = network_lib.Network(model, params, (height, width))
  name = os.path.basename(os.path.abspath(workdir))
  return model, network, network_lib.fingerprint(model, params), name


def _kind(image):
  return f'{image.shape[1]}x{image.shape[0]} {"grey" if image.shape[2] == 1 else "RGB"}'

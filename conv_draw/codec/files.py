"""Image files to coded files and back."""

import io
import os

import numpy as np
from PIL import Image

from conv_draw import config as config_lib
from conv_draw import data_folder, trained
from conv_draw.codec import bits_back, container
from conv_draw.codec import image as image_lib
from conv_draw.codec import network as network_lib
from conv_draw.errors import UserError

SEED = 0  # of the dither and of the initial bits
MAX_PIXELS = 2**20  # of an image: what the network holds of it grows with it
BINS = ('uniform', 'rounded')  # posteriors that code single images
GAUSSIAN = ('gaussian', 'constant')  # and those for bits-back coding


def encode(source, path, workdir, lossless=False, bits_per_dim=None):
  """Writes the image file `source` to the coded file `path`.

  What is written has been decoded before; lossless, it was the image.

  Args:
    lossless: store the pixels behind the latents.
    bits_per_dim: store as many groups of latents as fit into this rate, the file's overhead
      included. None: all.
  Returns:
    One line that says how large it is.
  Raises:
    UserError: an image that the model cannot code.
  """
  pixels = data_folder.read(source)
  height, width, channels = pixels.shape
  model, network, fingerprint, name = _model(workdir, pixels.shape, BINS)
  _check_levels(source, pixels, model)
  segments, bits = image_lib.encode(network, pixels, SEED, lossless)
  mode = container.LOSSLESS if lossless else container.LOSSY
  header = container.Header(
      mode, width, height, channels, model.pixels.levels, model.steps, 0, SEED, fingerprint, name)
  data = container.write(header, segments)
  while bits_per_dim is not None and segments and 8 * len(data) > bits_per_dim * pixels.size:
    segments = segments[:-1]
    data = container.write(header, segments)
  decoded = image_lib.decode(network, segments, SEED)
  if lossless and not np.array_equal(decoded, pixels):
    raise UserError(f'{path} was not written: it would not decode to {source}')
  container.write_file(path, data)
  payload = 8 * sum(len(segment.payload) for segment in segments)
  error = np.mean((decoded.astype(float) - pixels) ** 2) / (model.pixels.levels - 1) ** 2
  quality = 'lossless' if lossless else (
      f'{len(segments)} of {model.steps} groups, PSNR {-10 * np.log10(max(error, 1e-12)):.2f} dB')
  return (
      f'{path}: {width}x{height}, {quality}; {len(data):,} bytes, '
      f'{8 * len(data) / pixels.size:.4f} bits/dim (payload {payload / pixels.size:.4f}, model '
      f'{bits[:len(segments)].sum() / pixels.size:.4f})')


def decode(path, target, workdir, partial=False, temperature=0.0):
  """Writes the image in the coded file `path` to the image file `target`.

  Args:
    partial: accept a file cut anywhere.
    temperature: of the prior that generates the groups that are missing.
  Returns:
    One line that says what was decoded.
  Raises:
    UserError: a damaged file, or one of another model.
  """
  header, segments = container.read(container.read_file(path), partial, source=path)
  _, network, fingerprint, name = _model(
      workdir, (header.height, header.width, header.channels), BINS)
  _check_fingerprint(path, header, workdir, fingerprint, name)
  pixels = image_lib.decode(network, segments, header.seed, temperature)
  _save(target, pixels)
  groups = sum(segment.kind == container.LATENTS for segment in segments)
  exact = 'lossless' if len(segments) > groups else f'{groups} of {header.groups} groups'
  return f'{target}: {header.width}x{header.height}, {exact}'


def archive(folder, path, workdir):
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
  model, network, fingerprint, name = _model(workdir, images.shape[1:], GAUSSIAN)
  _check_levels(folder, images, model)
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
      workdir, (header.height, header.width, header.channels), GAUSSIAN)
  _check_fingerprint(path, header, workdir, fingerprint, name)
  images = bits_back.decode(network, payload, header.count, header.seed)
  paths = [os.path.join(folder, os.path.splitext(n)[0] + '.png') for n in names]
  for target in paths:
    if os.path.lexists(target) or paths.count(target) > 1:
      raise UserError(f'{target} would be overwritten: extract into an empty folder')
  os.makedirs(folder, exist_ok=True)
  for target, image in zip(paths, images, strict=True):
    _save(target, image)
  return f'{folder}: {header.count} images'


def _model(workdir, image_shape, posteriors):
  """(model, `Network`, fingerprint, name) of a run, for images of shape (H, W, C)."""
  config = config_lib.load(workdir)
  if config.model.kind != 'draw' or config.model.posterior not in posteriors:
    raise UserError(
        f'{workdir} has model.kind={config.model.kind}, model.posterior={config.model.posterior}; '
        f'this needs draw and {" or ".join(posteriors)} (single images: uniform or rounded; '
        'archives: gaussian or constant)')
  height, width, channels = image_shape
  if height * width > MAX_PIXELS:
    raise UserError(
        f'an image of {width}x{height} pixels is more than {MAX_PIXELS:,}: cut it into parts')
  model, params, _, images = trained.load(config, workdir)
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


def _check_levels(source, pixels, model):
  if pixels.max() >= model.pixels.levels:
    raise UserError(
        f'{source} has pixels up to {pixels.max()}, but the model knows {model.pixels.levels} '
        'values: use a model of 8-bit images')


def _check_fingerprint(path, header, workdir, fingerprint, name):
  if fingerprint != header.fingerprint:
    raise UserError(
        f'{path} was written with another model, {header.name} ({header.fingerprint.hex()}); '
        f'{workdir} has {name} ({fingerprint.hex()}): give its --workdir')


def _save(path, pixels):
  """Writes uint8 [H, W, C] as an image file, whole or not at all."""
  format_ = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
  if format_ is None:
    raise UserError(f'{path} has no extension of an image format: end it in .png')
  data = io.BytesIO()
  Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(data, format_)
  container.write_file(path, data.getvalue())


def _kind(image):
  return f'{image.shape[1]}x{image.shape[0]} {"grey" if image.shape[2] == 1 else "RGB"}'

"""Checks of what a `coder.Coder` is asked: each raises a `UserError` of one line.

`coder` is the one that is asked, `source` the name of the image or file in messages.
"""

import math

import jax
import numpy as np

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.codec import latent_optimisation, parameter_tuning
from conv_draw.codec import network as network_lib
from conv_draw.codec.format import limits
from conv_draw.errors import UserError
from conv_draw.model import arguments
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.pixels import BernoulliPixels
from conv_draw.progressive.model import Progressive


def check_model(model):
  """Checks that a model codes: it has latents, or is an integer network alone."""
  codes = isinstance(model, ConvDraw | Progressive) or (
      isinstance(model, LocalDraw) and model.draw is None
      and isinstance(model.head, IntegerPixels) and model.head.whole)
  if not codes:
    raise UserError(
        'model: the codec takes a ConvDraw, a Progressive, or a LocalDraw of IntegerPixels that '
        'are whole, without latents')
  if isinstance(model, ConvDraw) and isinstance(model.pixels, LogisticMixturePixels):
    raise UserError(
        'model: the codec has no coder for model.likelihood=logistic_mixture: use gaussian or '
        'bernoulli')


def check_posterior(coder, wanted, quantised):
  """Checks that the model's posterior is in `wanted`; `quantised` are those of single images."""
  if coder.lossless_only:
    if wanted != quantised:
      raise UserError(
          f'the model {coder.name} has no latents: code images one by one, with --lossless')
  elif coder.model.posterior not in wanted:
    raise UserError(
        f'the model {coder.name} has model.posterior={coder.model.posterior}; this needs '
        f'{" or ".join(wanted)} (single images: uniform or rounded; archives: gaussian or '
        'constant)')


def check_request(coder, source, lossless, groups, bits_per_dim, psnr, tile_side, effort,
                  qp_offset):
  """Checks that the arguments of `Coder.encode` go together, and with the model."""
  name, model = coder.name, coder.model
  limited = [x for x in (groups, bits_per_dim, psnr) if x is not None]
  if lossless and limited:
    raise UserError(
        f'{source}: lossless stores everything: leave out groups, bits_per_dim and psnr')
  if psnr is not None and len(limited) > 1:
    raise UserError(f'{source}: psnr decides by itself: leave out groups and bits_per_dim')
  for value, argument, most, whole in (
      (groups, 'groups', model.iterations, True), (bits_per_dim, 'bits_per_dim', math.inf, False),
      (psnr, 'psnr', math.inf, False), (tile_side, 'tile_side', limits.MAX_SIDE, True),
      (effort, 'effort', len(parameter_tuning.UPDATES) - 1, True)):
    if value is not None:
      arguments.number(value, argument, 0, most, whole=whole)
  if qp_offset is not None:
    choices = range(1) if coder.lossless_only else network_lib.offsets(model)
    arguments.number(qp_offset, 'qp_offset', choices[0], choices[-1], whole=True)
  if effort and lossless and not coder.lossless_only:
    raise UserError(f'the model {name} has no integer network to be tuned to images: effort=0')
  if effort and not lossless and not latent_optimisation.supports(model):
    raise UserError(
        f'the model {name} is not a progressive one with RDOQ (progressive.lmbda), whose latents '
        'can be optimised: effort=0')
  if lossless and coder.lossy_only:
    raise UserError(f'the model {name} is of lossy files alone: leave out --lossless, or '
                    'leave out --workdir for the model of lossless ones')
  if coder.lossless_only and not lossless:
    raise UserError(f'the model {name} has no latents and stores pixels: give --lossless')


def image(coder, source, image, lossless):
  """The image as [H, W, C] uint8, if the model takes it."""
  image = np.asarray(arguments.images(image, 'HWC', coder.model.pixels.grey_levels, source))
  _check_shape(coder, source, image.shape)
  if lossless:
    _check_values(coder, source, image)
  return image


def archive(coder, source, images, names):
  """([N, H, W, C] uint8, names) of images, if the model archives them."""
  images = np.asarray(arguments.images(images, 'NHWC', coder.model.pixels.grey_levels, source))
  names = arguments.strings(names, 'names')
  if len(names) != len(images):
    raise UserError(f'{source}: {len(images)} images and {len(names)} names: give each one')
  _check_shape(coder, source, images.shape[1:])
  _check_values(coder, source, images)
  if images.shape[3] < coder.model.channels:
    raise UserError(
        f'{source} holds grey images, the model {coder.name} takes colour: convert them to RGB')
  return images, names


def _check_shape(coder, source, shape):
  """Checks that the model takes images of (H, W, C)."""
  height, width, channels = shape
  if channels > coder.model.channels:
    raise UserError(
        f'{source} has colours, the model {coder.name} has not: convert it to grey, or use '
        'a model of colour images')
  if not coder.fits((height, width)):
    raise UserError(
        f'{source} is {width}x{height}; the model {coder.name} has fully connected layers '
        f'and takes {coder.fixed_size[1]}x{coder.fixed_size[0]} alone')
  if height * width > limits.MAX_PIXELS:
    raise UserError(
        f'{source} is {width}x{height}, more than {limits.MAX_PIXELS:,} pixels: cut it up')


def _check_values(coder, source, images):
  """Checks that pixels have a probability: two values under a model of binary pixels."""
  pixels = coder.model.pixels
  if isinstance(pixels, BernoulliPixels) and not (
      np.isin(images, (0, pixels.grey_levels - 1)).all()):
    raise UserError(
        f'{source} has more values than the two that the model {coder.name} knows, 0 and '
        f'{pixels.grey_levels - 1}: make it black and white, or use another model')


def check_tile(coder, source, size, most):
  """Checks that the model takes tiles of (H, W), of at most so many pixels."""
  height, width = size
  if not coder.fits(size):
    raise UserError(
        f'{source} would be coded in tiles of {width}x{height}; the model {coder.name} has fully '
        f'connected layers and takes {coder.fixed_size[1]}x{coder.fixed_size[0]} alone: --tile=0')
  if height * width > most:
    raise UserError(
        f'{source} has {width}x{height} pixels in one piece, more than {most:,}: '
        f'tiles of {math.isqrt(most)} pixels are the most')


def check_size(source, image, segments, size, limit):
  """Checks that a file of `size` bytes keeps the limit."""
  if size > limit:
    least = np.ceil(8 * size / image.size * 1e4) / 1e4  # rounded up: this rate is enough
    what = 'its first group of latents' if segments else 'nothing but a header'
    raise UserError(
        f'{source} takes {least:.4f} bits/dim with {what}, more than {8 * limit / image.size:g}: '
        'ask for that much, or for --groups=0 alone')


def check_something_stored(coder, source, segments, tiling):
  """Checks that an image can be decoded from the segments, in less than hours."""
  if coder.lossless_only and not segments:
    raise UserError(f'{source} ends before its pixels, and there is nothing else: get it again')
  if not segments and tiling.count > tiling.batch:
    raise UserError(
        f'{source}: with no groups of latents at all there is nothing of an image that large; '
        'store one group or more')


def check_header(coder, source, header):
  """Checks that the header of a file or archive is of this model."""
  if header.fingerprint != coder.fingerprint:
    raise UserError(
        f'{source} was written with another model, {header.name} ({header.fingerprint.hex()}); '
        f'this is {coder.name} ({coder.fingerprint.hex()}): give the --workdir of that one')
  shape = header.height, header.width, header.channels
  if (header.channels > coder.model.channels
      or header.grey_levels != coder.model.pixels.grey_levels):
    raise UserError(
        f'{source} says {shape}, {header.grey_levels} levels, which its model has not')
  if not coder.fits(shape[:2]):
    raise UserError(f'{source} says {shape}, a size that its model does not take')


def check_groups(coder, source, header):
  """Checks that a header has as many groups as the model has iterations."""
  if header.groups != coder.model.iterations:
    raise UserError(f'{source} has {header.groups} groups, its model {coder.model.iterations}')


def other_machine(source, header, remedy):
  """The `UserError` of data whose checksums are right, but which do not decode here."""
  text = lambda version: '.'.join(map(str, version)) if version else 'an unknown version'
  if jax.default_backend() != 'cpu':
    remedy = f', or on the CPU (JAX_PLATFORMS=cpu){remedy}'
  return UserError(
      f'{source} is not damaged, but does not decode here: it was written on another machine or '
      f'with another JAX (with {text(header.jax)}; here {text(jax_version())}): decode it there'
      f'{remedy}')


def jax_version():
  """(major, minor, patch)."""
  return jax.__version_info__[:3]

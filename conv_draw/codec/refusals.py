"""What a `coder.Coder` refuses, and what it says: a `UserError` each.

Here `coder` is the one that is asked, and `source` what messages call the image or file.
"""

import math

import jax
import numpy as np

from conv_draw.autoregressive.integer_pixels import IntegerPixels
from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.codec import adapting, refining
from conv_draw.codec import network as network_lib
from conv_draw.codec.format import limits
from conv_draw.errors import UserError
from conv_draw.model import arguments
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.pixels import BernoulliPixels
from conv_draw.progressive.model import Progressive


def request(coder, source, lossless, groups, bits_per_dim, psnr, tile_side, effort, contrast):
  """Arguments of `Coder.encode` that contradict each other, or the model."""
  name, model = coder.name, coder.model
  limited = [x for x in (groups, bits_per_dim, psnr) if x is not None]
  if lossless and limited:
    raise UserError(
        f'{source}: lossless stores everything: leave out groups, bits_per_dim and psnr')
  if psnr is not None and len(limited) > 1:
    raise UserError(f'{source}: psnr decides by itself: leave out groups and bits_per_dim')
  if groups is not None:
    arguments.number(groups, 'groups', 0, model.iterations, whole=True)
  if bits_per_dim is not None:
    arguments.number(bits_per_dim, 'bits_per_dim', 0, math.inf)
  if psnr is not None:
    arguments.number(psnr, 'psnr', 0, math.inf)
  if contrast is not None:
    choices = network_lib.offsets(model)
    arguments.number(contrast, 'contrast', choices[0], choices[-1], whole=True)
  arguments.number(effort, 'effort', 0, len(adapting.STEPS) - 1, whole=True)
  if effort and lossless and not coder.head:
    raise UserError(
        f'the model {name} has no whole-number pixels to be fitted to images: effort=0')
  if effort and not lossless and not (model.iterations and refining.refines(model)):
    raise UserError(
        f'the model {name} is not a progressive one with RDOQ (progressive.lmbda), whose latents '
        'can be optimised: effort=0')
  if tile_side is not None:
    arguments.number(tile_side, 'tile_side', 0, limits.MAX_SIDE, whole=True)
  if lossless and coder.lossy_only:
    raise UserError(f'the model {name} is of lossy files alone: leave out --lossless, or '
                    'leave out --workdir for the model of lossless ones')
  if coder.lossless_only and not lossless:
    raise UserError(f'the model {name} has no latents and stores pixels: give --lossless')


def model(model):
  """What is no model that codes."""
  head = None
  if isinstance(model, LocalDraw):
    model, head = model.draw, model.head
  if not (isinstance(model, ConvDraw | Progressive) or model is None and head) or not (
      head is None or isinstance(head, IntegerPixels) and head.whole):
    raise UserError(
        'model: what codes is a ConvDraw, a Progressive, or a LocalDraw (of one or none) with '
        'IntegerPixels that are whole')


def image(coder, source, shape):
  """An image of a size or with channels that the model does not take: of shape (H, W, C)."""
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


def tile(coder, source, size, most):
  """Tiles of (H, W) that the model does not take, or of more than so many pixels."""
  height, width = size
  if not coder.fits(size):
    raise UserError(
        f'{source} would be coded in tiles of {width}x{height}; the model {coder.name} has fully '
        f'connected layers and takes {coder.fixed_size[1]}x{coder.fixed_size[0]} alone: --tile=0')
  if height * width > most:
    raise UserError(
        f'{source} has {width}x{height} pixels in one piece, more than {most:,}: '
        f'tiles of {math.isqrt(most)} pixels are the most')


def values(coder, source, images):
  """Grey values to be coded losslessly with a model of binary pixels."""
  pixels = coder.model.pixels
  if isinstance(pixels, BernoulliPixels) and not (
      np.isin(images, (0, pixels.grey_levels - 1)).all()):
    raise UserError(
        f'{source} has more values than the two that the model {coder.name} knows, 0 and '
        f'{pixels.grey_levels - 1}: make it black and white, or use another model')


def header(coder, source, found):
  """A file or archive of another model, or of images that this one does not take."""
  if found.fingerprint != coder.fingerprint:
    raise UserError(
        f'{source} was written with another model, {found.name} ({found.fingerprint.hex()}); '
        f'this is {coder.name} ({coder.fingerprint.hex()}): give the --workdir of that one')
  shape = found.height, found.width, found.channels
  if found.channels > coder.model.channels or found.grey_levels != coder.model.pixels.grey_levels:
    raise UserError(
        f'{source} says {shape}, {found.grey_levels} levels, which its model has not')
  if not coder.fits(shape[:2]):
    raise UserError(f'{source} says {shape}, a size that its model does not take')


def nothing(coder, source, segments, tiling):
  """No segments at all, of a file that would have to be made up."""
  if coder.lossless_only and not segments:
    raise UserError(f'{source} ends before its pixels, and there is nothing else: get it again')
  if not segments and tiling.count > tiling.batch:  # hours, for an image of nothing
    raise UserError(
        f'{source}: with no groups of latents at all there is nothing of an image that large; '
        'store one group or more')


def elsewhere(source, header, remedy):
  """The `UserError` of data whose checksums hold, but which do not decode here."""
  said = lambda version: '.'.join(map(str, version)) if version else 'an unknown version'
  if jax.default_backend() != 'cpu':
    remedy = f', or on the CPU (JAX_PLATFORMS=cpu){remedy}'
  return UserError(
      f'{source} is not damaged, but does not decode here: it was written on another machine or '
      f'with another JAX (with {said(header.jax)}; here {said(jax_version())}): decode it there'
      f'{remedy}')


def jax_version():
  """(major, minor, patch)."""
  return jax.__version_info__[:3]

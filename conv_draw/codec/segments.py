"""An image to the segments of its file and back: latents, whole-number pixels, or both."""

import numpy as np

from conv_draw.codec import image as image_lib
from conv_draw.codec import whole_image
from conv_draw.codec.entropy import stream
from conv_draw.codec.format import container, framing
from conv_draw.codec.picture import Picture


def encode(network, whole_pixels, tiling, image, ends, seed, lossless, measure=False, effort=0,
           clock=None, progress=None, contrast=0, refinement=None):
  """[`container.Segment`], and what they promise in bits, float64 [segments].

  Args:
    network: `network.Network` of the latents; None without any.
    whole_pixels: `whole_pixels.WholePixels` for the pixels; None: lossy, or by what the canvas
      says of them.
    tiling, image, ends, seed, lossless, measure, contrast, refinement: as `image.encode`
      takes them.
    effort, clock: as `whole_image.encode`.
    progress: called with how much of the work is done, and how much there is.
  """
  segments, bits, picture = [], np.zeros(0), None
  if network:
    picture = Picture(tiling, network.model.channels) if whole_pixels else None
    segments, bits = image_lib.encode(
        network, tiling, image, ends, seed, lossless and not whole_pixels, measure, picture,
        contrast, None if whole_pixels else progress, refinement)
  if not whole_pixels:
    return segments, bits
  data, promised = whole_image.encode(
      whole_pixels, tiling, image, effort, clock, progress, picture and picture.image)
  if picture:
    settled = segments.pop().payload  # what is in doubt of the canvas
    data = framing.varint(len(settled)) + settled + data
  segments.append(container.Segment(container.PIXELS, container.PIXELS_INDEX, data))
  return segments, np.append(bits[: len(segments) - 1], promised)


def decode(network, whole_pixels, tiling, segments, ends, channels, seed, temperature=0.0,
           clock=None, progress=None):
  """Undoes `encode`: [H, W, C = channels] uint8.

  `whole_pixels` is None if there are no such pixels in the file.

  Raises:
    UserError: segments that another model, or another kind of machine, wrote.
  """
  if not whole_pixels:
    return image_lib.decode(
        network, tiling, segments, ends, channels, seed, temperature, progress=progress)
  *before, pixels = segments
  data, picture = pixels.payload, None
  if network:
    picture = Picture(tiling, network.model.channels)
    cursor = framing.Cursor(data, 'the pixels')
    try:
      settled = cursor.take(cursor.varint())
    except framing.Cut:
      raise stream.Undecodable('its pixels end too early') from None
    data = data[cursor.offset :]
    image_lib.decode(
        network, tiling, [*before, pixels._replace(payload=settled)], ends, channels, seed,
        picture=picture)
  return whole_image.decode(
      whole_pixels, tiling, data, channels, clock, progress, picture and picture.image)

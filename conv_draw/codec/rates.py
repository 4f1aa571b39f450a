"""How much of an image is stored, for a rate or a quality that is asked for."""

import numpy as np

from conv_draw.codec.format import container

HALVINGS = 6  # of the range of prices
CONTRASTS = (0, 2, 4, 6)  # of `network.CONTRASTS`, those that are tried


def size_of(header):
  """Segments -> bytes of their file."""
  return lambda segments: len(container.write(header, segments))


def contrast(encode, psnrs, size_of, dims, bits_per_dim=None, psnr=None):
  """Which of `CONTRASTS` gives the best picture at a rate, or the smallest file of a quality.

  Args:
    encode: contrast -> segments of all groups.
    psnrs: segments -> PSNR in dB of their prefixes of 0, 1, ... groups.
    size_of: of some segments, in bytes.
    dims: values of the image.
    bits_per_dim: the rate; between two prefixes, PSNR is interpolated.
    psnr: or the quality, in dB.
  """
  best, found = CONTRASTS[0], -np.inf
  for candidate in CONTRASTS:
    segments = encode(candidate)
    quality = psnrs(segments)
    sizes = [size_of(segments[:count]) for count in range(len(segments) + 1)]
    if psnr is not None:
      count = enough(psnr, quality)
      worth = -sizes[count] if quality[count] >= psnr else quality[count] - 1e9
    else:
      worth = np.interp(bits_per_dim * dims / 8, sizes, quality)
    if worth > found:
      best, found = candidate, worth
  return best


def enough(psnr_db, psnrs):
  """How many groups have that quality, of 1 and more; all, if none have.

  Args:
    psnrs: in dB, of 0, 1, ... groups.
  """
  return next((n for n, found in enumerate(psnrs) if n and found >= psnr_db), len(psnrs) - 1)


def within(limit, size_of, segments, encode_again, price):
  """The most segments of latents that fit into a size, or one more of them, made thriftier to fit.

  Args:
    limit: bytes.
    size_of: of some segments, in bytes.
    segments: of all groups.
    encode_again: (how many groups, the price) -> segments; as `image.encode`.
    price: of the model; 0: what does not fit is left out whole.
  Returns:
    Segments; if not even the first one fits, it alone.
  """
  fit = next((n for n in range(len(segments), 0, -1) if size_of(segments[:n]) <= limit), 0)
  best = segments[: max(fit, 1)]
  if not price or fit == len(segments):
    return best
  low, high = 0.0, price  # the less an error is worth, the less is stored
  for _ in range(HALVINGS):
    middle = (low + high) / 2
    thriftier = encode_again(fit + 1, middle)
    if size_of(thriftier) <= limit:
      best, low = thriftier, middle
    else:
      high = middle
  return best

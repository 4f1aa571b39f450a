"""How much of an image is stored, for a rate or a quality that is asked for."""

import math

HALVINGS = 7  # of the range of prices, in logarithms
RANGE = 1000  # of prices
FURTHER = 6  # groups that are tried beyond those that serve with full contrast: more than a third
WORSE = 1e12  # than any size
CONTRASTS = tuple(range(8))  # of `network.CONTRASTS`, those that are tried


def contrast(encode, psnrs, size_of, groups, limit=math.inf, psnr=None):
  """Which of `CONTRASTS` gives the best picture within a size, or the smallest file of a quality.

  Args:
    encode: (how many groups, contrast) -> segments, and what coding promised to cost.
    psnrs: (segments, counts) -> PSNR in dB of their prefixes of so many groups each.
    size_of: of some segments, in bytes.
    groups: how many there are.
    limit: the size, in bytes.
    psnr: or the quality, in dB.
  Returns:
    (which contrast, what `encode` gave for it: not all groups, but more than are of use).
  """
  best, found = None, -math.inf
  for candidate in CONTRASTS:
    encoded = encode(groups, candidate)
    segments, _ = encoded
    sizes = [size_of(segments[:count]) for count in range(len(segments) + 1)]
    if psnr is not None:
      quality = psnrs(segments, range(len(segments) + 1))
      count = enough(psnr, quality)
      worth = -sizes[count] if quality[count] >= psnr else quality[count] - WORSE
    else:
      count = max(sum(size <= limit for size in sizes) - 1, 0)
      [worth] = psnrs(segments, [count])
    if worth > found:
      best, found = (candidate, encoded), worth
    if not candidate:  # with less contrast, a few more groups are as good as those
      groups = min(groups, count + FURTHER)
  return best


def enough(psnr_db, psnrs):
  """How many groups have that quality, of 1 and more; all, if none have.

  Args:
    psnrs: in dB, of 0, 1, ... groups.
  """
  return next((n for n, found in enumerate(psnrs) if n and found >= psnr_db), len(psnrs) - 1)


def within(limit, size_of, segments, encode_again, price):
  """The most segments of latents that fit into a size, and one more, made thriftier to fit.

  Args:
    limit: bytes.
    size_of: of some segments, in bytes.
    segments: of all groups.
    encode_again: (how many groups, the price of the last one) -> segments; as `image.encode`.
    price: of the model; 0: what does not fit is left out whole.
  Returns:
    Segments; if not even the first one fits, it alone.
  """
  fit = next((n for n in range(len(segments), 0, -1) if size_of(segments[:n]) <= limit), 0)
  best = segments[: max(fit, 1)]
  if not price or fit == len(segments):
    return best
  low, high = price / RANGE, price  # the less an error is worth, the less is stored
  for _ in range(HALVINGS):
    middle = math.sqrt(low * high)
    thriftier = encode_again(fit + 1, middle)
    if size_of(thriftier) <= limit:
      best, low = thriftier, middle
    else:
      high = middle
  return best

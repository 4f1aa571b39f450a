"""How much of an image is stored, for a rate or a quality that is asked for."""

import math

FURTHER = 6  # groups that are tried beyond those that serve with full contrast: more than a third
WORSE = 1e12  # than any quality or size
CONTRASTS = tuple(range(0, 64, 8))  # degrees, as of `network.DEGREES`, that are tried first
HALVINGS = 3  # then of the degrees between two of these


def search(encode, psnrs, size_of, groups, limit=math.inf, psnr=None):
  """The best picture that is found within a size, or the smallest file of a quality.

  First the best of `CONTRASTS`, with as many groups as serve; then the degree beside it that uses
  up what is left of the size, or of the quality.

  Args:
    encode: (how many groups, contrast) -> segments, and what coding promised to cost.
    psnrs: (segments, counts) -> PSNR in dB of their prefixes of so many groups each.
    size_of: of some segments, in bytes.
    groups: how many there are.
    limit: the size, in bytes.
    psnr: or the quality, in dB.
  Returns:
    (segments, what coding promised to cost): one group if none fits, all if none is good enough.
  """
  best, found, least = None, -math.inf, 1
  for contrast in CONTRASTS:
    segments, bits = encode(groups, contrast)
    if psnr is None:
      count = fitting(limit, size_of, segments)
      [worth] = psnrs(segments, [count])
      if size_of(segments[:count]) > limit:
        worth = -WORSE - size_of(segments[:count])
    else:
      counts = range(min(least, len(segments)), len(segments) + 1)
      quality = psnrs(segments, counts)
      reached = [n for n, q in zip(counts, quality, strict=True) if q >= psnr]
      count = min(reached, default=len(segments))
      worth = -size_of(segments[:count]) if reached else quality[-1] - WORSE
    if worth > found:
      best, found = (contrast, segments[:count], bits[:count]), worth
    if not contrast:  # with less contrast, a few more groups are as good as those, and no fewer
      least, groups = count, min(groups, count + FURTHER)
  contrast, *result = best
  count, step = len(result[0]), CONTRASTS[1]
  for _ in range(HALVINGS):  # more contrast for what is left of a size, less for that of a quality
    step //= 2
    closer = contrast + (step if psnr is not None else -step)
    segments, bits = encode(count, closer)
    if (size_of(segments) <= limit if psnr is None else psnrs(segments, [count])[0] >= psnr):
      contrast, result = closer, [segments, bits]
  return tuple(result)


def fitting(limit, size_of, segments):
  """How many of some segments fit into a size, but at least 1."""
  return next((n for n in range(len(segments), 0, -1) if size_of(segments[:n]) <= limit), 1)


def enough(psnr_db, psnrs):
  """How many groups have that quality, of 1 and more; all, if none have.

  Args:
    psnrs: in dB, of 1, 2, ... groups.
  """
  return next((n for n, found in enumerate(psnrs, 1) if found >= psnr_db), len(psnrs))

"""How much of an image is stored, for a rate or a quality that is asked for."""

import math
from typing import NamedTuple

from conv_draw.codec.network import OFFSETS

# The quality in dB of what is encoded without any limit, with a model that is good at all rates:
# photographs of 481x321 pixels have 36.6 and 37.7 dB as JPEG of quality 85 and 90, and 37.2 dB, in
# three quarters of the bytes, with as few groups as have this.
USUAL_PSNR = 36.0
FURTHER = 7  # groups that are tried beyond those that serve with most contrast: more than a third
CONTRASTS = OFFSETS[::8]  # that are tried first
HALVINGS = 3  # then of the degrees between two of these


class Tried(NamedTuple):
  """A number of groups in some contrast, and what that is."""

  contrast: int
  size: int  # bytes
  psnr_db: float


def search(encode, psnrs, size_of, groups, limit=math.inf, psnr=None):
  """The best picture that is found within a size, or the smallest file of a quality.

  With a number of groups, a file is the smaller and the picture the coarser, the less contrast
  there is: so for each number some degree meets what is asked for. Those around it are looked for
  among `CONTRASTS`; between them lies what the number would give, and the one that promises most
  is taken.

  Args:
    encode: (how many groups, contrast) -> segments, and what coding promised to cost.
    psnrs: (segments, counts) -> PSNR in dB of their prefixes of so many groups each.
    size_of: of some segments, in bytes.
    groups: how many there are, at least 1.
    limit: the size, in bytes.
    psnr: or the quality, in dB.
  Returns:
    (contrast, (segments, what coding promised to cost)): one group if none fits, all if none is
    good enough.
  """
  meets = lambda one: one.size <= limit if psnr is None else one.psnr_db >= psnr
  tried = {}  # number of groups -> [`Tried`], of less and less contrast
  encoded, most, least = {}, groups, 1
  for contrast in CONTRASTS:
    segments, _ = encoded[contrast] = encode(most, contrast)
    sizes = [size_of(segments[:count]) for count in range(len(segments) + 1)]
    if psnr is None:  # the last number that fits, and the next one
      fits = max((n for n, size in enumerate(sizes) if size <= limit), default=0)
      counts = range(max(fits, 1), min(fits + 1, len(segments)) + 1)
    else:
      counts = range(least, len(segments) + 1)
    found = [Tried(contrast, sizes[n], q)
             for n, q in zip(counts, psnrs(segments, counts), strict=True)]
    for count, one in zip(counts, found, strict=True):
      tried.setdefault(count, []).append(one)
    if contrast == CONTRASTS[0]:  # with less contrast, it takes a few more groups, and no fewer
      serving = [n for n, one in zip(counts, found, strict=True) if meets(one)]
      serves = counts[-1] if not serving else max(serving) if psnr is None else min(serving)
      least, most = serves, min(groups, serves + FURTHER)
  best = max(tried, key=lambda count: _promise(tried[count], limit, psnr))
  good = [one for one in tried[best] if meets(one)]
  if not good:
    contrast, count = (OFFSETS[-1], 1) if psnr is None else (CONTRASTS[0], groups)
    return contrast, encode(count, contrast)
  # From the one next to what is asked for: more contrast uses up a size, less of it a quality.
  contrast, step = (good[0] if psnr is None else good[-1]).contrast, CONTRASTS.step
  result = tuple(part[:best] for part in encoded[contrast])
  for _ in range(HALVINGS):
    step //= 2
    closer = contrast + (-step if psnr is None else step)
    if closer < CONTRASTS[0]:
      break
    again = encode(best, closer)
    [quality] = psnrs(again[0], [best]) if psnr is not None else [None]
    if meets(Tried(closer, size_of(again[0]), quality)):
      contrast, result = closer, again
  return contrast, result


def _promise(tried, limit, psnr):
  """What a number of groups would give: dB within the limit, or minus the bytes of the quality.

  Between two contrasts, linear in the logarithm of the size; -inf if none of them serves.
  """
  if psnr is None:
    points = [(math.log(one.size), one.psnr_db) for one in tried]
    target = math.log(limit) if limit > 0 else -math.inf
  else:
    points = [(-one.psnr_db, -math.log(one.size)) for one in tried]
    target = -psnr
  # Those up to the target serve, and the nearer they are, the more they are worth.
  serving = [point for point in points if point[0] <= target]
  if not serving:
    return -math.inf
  here = max(serving)
  beyond = min((point for point in points if point[0] > target), default=here)
  if beyond[0] == here[0]:
    return here[1]
  share = (target - here[0]) / (beyond[0] - here[0])
  return here[1] + share * (beyond[1] - here[1])


def fitting(limit, size_of, segments):
  """How many of some segments fit into a size, but at least 1."""
  return next((n for n in range(len(segments), 0, -1) if size_of(segments[:n]) <= limit), 1)


def enough(psnr_db, psnrs):
  """How many groups have that quality, of 1 and more; all, if none have.

  Args:
    psnrs: in dB, of 1, 2, ... groups.
  """
  return next((n for n, found in enumerate(psnrs, 1) if found >= psnr_db), len(psnrs))

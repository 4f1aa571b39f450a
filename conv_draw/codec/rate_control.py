"""Rate control: how many groups of latents a file stores, and at which quantisation-step offset."""

import math
from collections.abc import Callable
from typing import NamedTuple

from conv_draw.codec.latent_optimisation import Optimisation
from conv_draw.codec.network import OFFSETS

# The quality in dB of the command's default, with a model that is embedded: photographs of 481x321
# pixels have 36.6 and 37.7 dB as JPEG of quality 85 and 90, and 37.2 dB, in three quarters of the
# bytes, with as few groups as have this.
DEFAULT_PSNR = 36.0
MORE_GROUPS = 7  # tried beyond those that serve at the finest offset: more than a third of a step
COARSE_OFFSETS = OFFSETS[::8]  # tried first
HALVINGS = 3  # of the interval between two of them
# Offsets that latent optimisation tries beyond the one found, for a size or for a quality, until
# the size is used up or the quality met.
EXTRA_FOR_SIZE, EXTRA_FOR_QUALITY = (1, 0), (3, 1)
USED_UP = 0.99  # of a size


class Target(NamedTuple):
  """The file that is wanted."""

  groups: int  # at most, > 0 unless nothing is searched
  limit: float = math.inf  # bytes, of the file
  psnr: float | None = None  # dB; None: as good as the limit allows
  qp_offset: int | None = None  # None: the best one if there is a limit or a quality, else 0
  effort: int = 0  # of `Optimisation`
  offsets: int = len(OFFSETS)  # that the model has

  @property
  def searched(self) -> bool:
    """Whether the offset is searched."""
    limited = self.psnr is not None or self.limit < math.inf
    return limited and self.qp_offset is None and self.groups > 0 and self.offsets > 1

  @property
  def max_encodings(self) -> int:
    """How many times `best_file` encodes the image at most."""
    return 1 + self.searched * (len(COARSE_OFFSETS) - 1 + HALVINGS) + (
        self.effort > 0) * 2 * len(EXTRA_FOR_QUALITY)


class Trials(NamedTuple):
  """How to encode an image and to measure its file."""

  encode: Callable  # (groups, qp_offset, `Optimisation` or None) -> segments
  # The same and counts, a PSNR -> (segments, PSNR in dB at these truncation points), in one pass,
  # which may end at the first of them with that PSNR
  encode_measured: Callable
  psnrs: Callable  # (segments, counts) -> PSNR in dB at each of these truncation points
  size_of: Callable  # segments -> bytes of their file


class Tried(NamedTuple):
  """A number of groups at an offset, and its file."""

  qp_offset: int
  size: int  # bytes
  psnr_db: float


def best_file(target: Target, trials: Trials) -> list:
  """The segments of the best picture within a size, or of the smallest file of a quality.

  One group if no more fit into the limit, all if none are good enough; without a limit or a
  quality, all groups.
  """
  if target.searched:
    qp_offset, segments = search(target, trials)
  else:
    qp_offset = target.qp_offset or 0
    if target.psnr is None:
      segments = trials.encode(target.groups, qp_offset, None)
    else:
      segments, psnrs = trials.encode_measured(
          target.groups, qp_offset, None, range(1, target.groups + 1), target.psnr)
      segments = segments[: enough(target.psnr, psnrs)]
    if target.limit < math.inf:
      segments = segments[: fitting(target.limit, trials.size_of, segments)]
  if target.effort and segments and trials.size_of(segments) <= target.limit:
    segments = _optimised(target, trials, segments, qp_offset)
  return segments


def search(target: Target, trials: Trials) -> tuple[int, list]:
  """(offset, segments) of the best picture within a size, or of the smallest file of a quality.

  For a number of groups, a coarser offset gives a smaller file and a worse picture: so some offset
  meets the target. The search encodes the image at the `COARSE_OFFSETS`, interpolates the result at
  the target for each candidate number of groups, and refines the offset of the best number.
  """
  limit, psnr = target.limit, target.psnr
  meets = lambda one: one.size <= limit if psnr is None else one.psnr_db >= psnr
  tried = {}  # number of groups -> [`Tried`], from the finest offset to the coarsest
  encoded, most, least = {}, target.groups, 1
  for qp_offset in COARSE_OFFSETS:
    if psnr is None:
      segments = trials.encode(most, qp_offset, None)
    else:
      counts = range(least, most + 1)
      segments, psnrs = trials.encode_measured(most, qp_offset, None, counts)
    encoded[qp_offset] = segments
    sizes = [trials.size_of(segments[:count]) for count in range(len(segments) + 1)]
    if psnr is None:  # the last number that fits, and the next one
      fits = max((n for n, size in enumerate(sizes) if size <= limit), default=0)
      counts = range(max(fits, 1), min(fits + 1, len(segments)) + 1)
      psnrs = trials.psnrs(segments, counts)
    found = [Tried(qp_offset, sizes[n], q) for n, q in zip(counts, psnrs, strict=True)]
    for count, one in zip(counts, found, strict=True):
      tried.setdefault(count, []).append(one)
    if qp_offset == COARSE_OFFSETS[0]:  # a coarser offset takes a few more groups, and no fewer
      serving = [n for n, one in zip(counts, found, strict=True) if meets(one)]
      serves = counts[-1] if not serving else max(serving) if psnr is None else min(serving)
      least, most = serves, min(target.groups, serves + MORE_GROUPS)
  best = max(tried, key=lambda count: _interpolated(tried[count], limit, psnr))
  good = [one for one in tried[best] if meets(one)]
  if not good:
    qp_offset, count = (
        (OFFSETS[-1], 1) if psnr is None else (COARSE_OFFSETS[0], target.groups))
    return qp_offset, trials.encode(count, qp_offset, None)
  # From the offset next to the target: a finer one uses up a size, a coarser one a quality.
  qp_offset, step = (good[0] if psnr is None else good[-1]).qp_offset, COARSE_OFFSETS.step
  result = encoded[qp_offset][:best]
  for _ in range(HALVINGS):
    step //= 2
    closer = qp_offset + (-step if psnr is None else step)
    if closer < COARSE_OFFSETS[0]:
      break
    segments, [quality] = (
        (trials.encode(best, closer, None), [None]) if psnr is None else
        trials.encode_measured(best, closer, None, [best]))
    if meets(Tried(closer, trials.size_of(segments), quality)):
      qp_offset, result = closer, segments
  return qp_offset, result


def _interpolated(tried, limit, psnr):
  """What a number of groups would give: dB within the limit, or minus the log bytes of the quality.

  Linear in the logarithm of the size between two offsets; -inf if none of them meets the target.
  """
  if psnr is None:
    points = [(math.log(one.size), one.psnr_db) for one in tried]
    target = math.log(limit) if limit > 0 else -math.inf
  else:
    points = [(-one.psnr_db, -math.log(one.size)) for one in tried]
    target = -psnr
  meeting = [point for point in points if point[0] <= target]
  if not meeting:
    return -math.inf
  here = max(meeting)  # the point that is nearest to the target
  beyond = min((point for point in points if point[0] > target), default=here)
  if beyond[0] == here[0]:
    return here[1]
  share = (target - here[0]) / (beyond[0] - here[0])
  return here[1] + share * (beyond[1] - here[1])


def _optimised(target, trials, plain, qp_offset):
  """A better file than the segments `plain`, found at that offset, by latent optimisation.

  It keeps the limit and the quality of the target; without either, it is the file that costs
  least, whatever its size. `plain` itself if no better one is found.
  """
  limit, psnr, count = target.limit, target.psnr, len(plain)
  best, best_psnr, extra = plain, -math.inf, (0,)
  if target.searched:
    extra = EXTRA_FOR_SIZE if psnr is None else EXTRA_FOR_QUALITY
  for more in extra:
    offset = min(qp_offset + more, OFFSETS[-1])
    max_nats = max_error = math.inf
    if psnr is not None or limit < math.inf:
      start = plain if offset == qp_offset else trials.encode(count, offset, None)
      most = limit if psnr is None else trials.size_of(plain) - 1
      max_nats = most / trials.size_of(start)
      if psnr is not None:
        max_error = 10 ** ((trials.psnrs(start, [count])[0] - psnr) / 10)
    optimised, [quality] = trials.encode_measured(
        count, offset, Optimisation(target.effort, max_nats, max_error), [count])
    size = trials.size_of(optimised)
    if psnr is not None:
      if quality >= psnr and size < trials.size_of(plain):
        return optimised
    elif limit == math.inf:
      return optimised
    elif size <= limit:
      if best is plain:
        [best_psnr] = trials.psnrs(plain, [count])
      if quality > best_psnr:
        best, best_psnr = optimised, quality
      if size > USED_UP * limit:
        break
  return best


def fitting(limit: float, size_of: Callable, segments: list) -> int:
  """How many of some segments fit into a size, but at least 1."""
  return next((n for n in range(len(segments), 0, -1) if size_of(segments[:n]) <= limit), 1)


def enough(psnr_db: float, psnrs: list) -> int:
  """The least number of groups of that quality; all, if none have it.

  Args:
    psnrs: in dB, of 1, 2, ... groups.
  """
  return next((n for n, found in enumerate(psnrs, 1) if found >= psnr_db), len(psnrs))

"""Training batches, prepared on the host while the devices work on the one before.

With config.data.workers, sets that lie on disk are read and decoded by that many processes, through
Grain. Which images a batch holds never depends on who prepares it.
"""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

import numpy as np
from absl import flags

from conv_draw.data import sets
from conv_draw.errors import UserError, reason
from conv_draw.machine import devices

# Set the random numbers that change images apart from those that order them.
FLIPS, CROPS, GREYS, CONTRASTS = 1, 2, 3, 4

LUMA = (77, 150, 29)  # of 256: what red, green and blue are to a grey image (ITU-R BT.601)


class Batches:
  """The batches of a run.

  Args:
    images: `sets.Images`.
    batch_size: images in a batch, over all processes that train together.
    seed: of the order of the images.
    workers: worker processes to start; 0 for none: a thread prepares the batches. Images in memory
      are left to the thread, whatever this says.
    flips: mirror half of the images, drawn at random for each batch, left to right.
    grey: show this share of the images in grey, drawn at random for each batch.
    contrast: divide differences from mid grey by 1 to this, drawn at random for each image.
    process_index, process_count: which of the processes that train together this is. It prepares
      its own slice of every batch and reads nothing else.

  Raises:
    UserError: the processes do not divide the batch, or images to be shown in grey are.
  """

  def __init__(self, images, batch_size, seed, workers=0, flips=False, grey=0.0, contrast=1.0,
               process_index=0, process_count=1):
    if batch_size % process_count:
      raise UserError(
          f'train.batch_size is {batch_size}, which {process_count} processes do not divide: '
          f'set --config.train.batch_size to a multiple of {process_count}')
    if grey and images.shape[-1] != 3:
      raise UserError(f'{images.name} has no colours: leave --config.data.grey at 0')
    self._make = _Recipe(
        images.fetch, len(images), batch_size, seed, flips, grey, contrast,
        (images.grey_levels - 1) / 2, images.crops, process_index, process_count)
    self._workers = _Workers(self._make, workers) if workers and images.on_disk else None
    self._pool = concurrent.futures.ThreadPoolExecutor(
        1, initializer=_leave_signals_to_others if self._workers else None)
    self._next = {}

  def take(self, step, reverts):
    """uint8 [devices, B / devices, H, W, C]: a pure function of (seed, reverts, step).

    B is this process's slice of the batch, and the devices are its own.

    Raises:
      UserError: an image cannot be read, or a worker has died.
    """
    future = self._next.pop((step, reverts), None) or self._submit(step, reverts)
    batch = future.result()
    self._next = {(step + 1, reverts): self._submit(step + 1, reverts)}
    return devices.split(batch)

  def close(self):
    """Ends the thread and the workers."""
    self._pool.shutdown(cancel_futures=True)
    if self._workers:
      self._workers.close()

  def _submit(self, step, reverts):
    return self._pool.submit(self._workers or self._make, reverts, step)


@dataclasses.dataclass(frozen=True)
class _Recipe:
  """All that it takes to make any batch, in this process or another."""
  fetch: Callable[[np.ndarray], np.ndarray]
  size: int
  batch_size: int
  seed: int
  flips: bool
  grey: float
  contrast: float
  middle: float
  crops: bool
  process_index: int
  process_count: int

  def __call__(self, reverts, step):
    """uint8 [B / processes, H, W, C]."""
    indices = sets.batch_indices(self.size, self.batch_size, (self.seed, reverts), step)
    mine = lambda whole: np.split(whole, self.process_count)[self.process_index]
    random_for = lambda purpose: np.random.default_rng((self.seed, reverts, step, purpose))
    if self.crops:
      places = random_for(CROPS).random((self.batch_size, 2))
      batch = self.fetch(mine(indices), mine(places))
    else:
      batch = self.fetch(mine(indices))
    if self.flips:
      mirrored = self._some(random_for(FLIPS), 0.5, mine)
      batch = np.where(mirrored, batch[:, :, ::-1], batch)
    if self.grey:
      chosen = self._some(random_for(GREYS), self.grey, mine)
      luma = (batch.astype(np.int32) @ LUMA + 128) >> 8
      batch = np.where(chosen, luma[..., None].astype(np.uint8), batch)
    if self.contrast > 1:
      degrees = mine(random_for(CONTRASTS).random(self.batch_size))[:, None, None, None]
      less = self.contrast**-degrees * (batch - self.middle)
      batch = np.rint(self.middle + less).astype(np.uint8)
    return batch

  def _some(self, random, share, mine):
    """bool [B / processes, 1, 1, 1]: a share of the images, drawn."""
    return mine(random.random(self.batch_size) < share)[:, None, None, None]


class _Workers:
  """The same from `count` processes, worker i of which makes every batch i modulo `count`."""

  def __init__(self, recipe, count):
    self._recipe, self._count = recipe, count
    self._iterator, self._next = None, None

  def __call__(self, reverts, step):
    if self._next != (reverts, step):  # the first one of all, or the first after a revert
      self.close()
      self._iterator = iter(self._dataset(reverts, step))
    self._next = None
    try:
      batch = np.array(next(self._iterator))  # copied, so that the shared memory goes at once
    except RuntimeError as error:
      if 'terminated unexpectedly' not in str(error):
        raise
      raise UserError(
          f'a worker process that prepares batches has died ({reason(error)}): see that there is '
          'memory for all of them, in /dev/shm too, or lower --config.data.workers') from error
    self._next = (reverts, step + 1)
    return batch

  def close(self):
    """Ends the worker processes."""
    if self._iterator:
      self._iterator.close()
    self._iterator, self._next = None, None

  def _dataset(self, reverts, step):
    """The batches from `step` on, as Grain's IterDataset."""
    import grain  # Takes half a second, and most runs do without it.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain reads its own, also in programs that have no flags.
    return (
        grain.MapDataset.range(step, sys.maxsize)
        .map(functools.partial(self._recipe, reverts))
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        .mp_prefetch(
            grain.MultiprocessingOptions(num_workers=self._count, per_worker_buffer_size=1),
            worker_init_fn=_start_worker))


def _leave_signals_to_others():
  """Blocks SIGINT and SIGTERM in this thread and in what it starts, the worker processes.

  Both are often sent to all processes of a job. It is the main thread of the parent that decides
  what becomes of a run: it may want more batches to end it well.
  """
  multiprocessing.get_context('spawn').Lock()  # What this starts unblocks them in the thread.
  if hasattr(signal, 'pthread_sigmask'):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _start_worker(index, count):
  """Runs in every worker process before it makes batches."""
  del index, count
  import jax  # Grain has imported it anyway, for its pytrees.
  jax.config.update('jax_platforms', 'cpu')  # No worker ever takes an accelerator.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
  multiprocessing.parent_process().join()  # however it ends, SIGKILL included
  os._exit(1)

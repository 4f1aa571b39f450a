"""Training batches, prepared on the host while the devices compute.

With config.data.workers, worker processes read and decode data sets on disk, through Grain. The
images of a batch do not depend on the number of workers.
"""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import signal
import sys
import threading

import numpy as np
from absl import flags

from conv_draw.data import sets
from conv_draw.errors import UserError, reason
from conv_draw.machine import devices

# Purposes of random numbers: each has its own stream, apart from the order of the images.
FLIPS, CROPS, GREYS, CONTRASTS = 1, 2, 3, 4

LUMA = (77, 150, 29)  # weights of red, green and blue, in 1/256 (ITU-R BT.601)


class Batches:
  """The batches of a run.

  Args:
    images: `sets.Images`.
    batch_size: images in a batch, over all processes that train together.
    seed: of the order of the images.
    workers: worker processes to start; 0: a thread prepares the batches, as it always does for
      images in memory.
    flips: whether to mirror a random half of each batch left to right.
    grey: fraction of each batch, chosen at random, to convert to grey.
    contrast: largest factor, drawn at random for each image, by which to reduce the contrast.
    process_index, process_count: place of this process among those that train together. It reads
      and prepares its own slice of every batch only.

  Raises:
    UserError: process_count does not divide batch_size, or grey is set for images without colour.
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
        images, batch_size, seed, flips, grey, contrast, process_index, process_count)
    self._workers = _Workers(self._make, workers) if workers and images.on_disk else None
    self._pool = concurrent.futures.ThreadPoolExecutor(
        1, initializer=_block_signals if self._workers else None)
    self._next = {}

  def take(self, step, reverts):
    """uint8 [devices, B / devices, H, W, C]: a pure function of (seed, reverts, step).

    B is the size of this process's slice, and the devices are its local devices.

    Raises:
      UserError: an image cannot be read, or a worker process has died.
    """
    future = self._next.pop((step, reverts), None) or self._submit(step, reverts)
    batch = future.result()
    self._next = {(step + 1, reverts): self._submit(step + 1, reverts)}
    return devices.split(batch)

  def close(self):
    """Ends the thread and the worker processes."""
    self._pool.shutdown(cancel_futures=True)
    if self._workers:
      self._workers.close()

  def _submit(self, step, reverts):
    return self._pool.submit(self._workers or self._make, reverts, step)


@dataclasses.dataclass(frozen=True)
class _Recipe:
  """Makes any batch of a run, in this process or in a worker."""
  images: sets.Images
  batch_size: int
  seed: int
  flips: bool
  grey: float
  contrast: float
  process_index: int
  process_count: int

  def __call__(self, reverts, step):
    """uint8 [B / processes, H, W, C]."""
    images, key = self.images, (self.seed, reverts)
    own = lambda batch: np.split(batch, self.process_count)[self.process_index]

    def uniform(purpose, *shape):
      """float64 [B / processes, *shape] in [0, 1)."""
      rng = np.random.default_rng((*key, step, purpose))
      return own(rng.random((self.batch_size, *shape)))

    indices = own(sets.batch_indices(len(images), self.batch_size, key, step))
    positions = (uniform(CROPS, 2),) if images.crops else ()
    batch = images.fetch(indices, *positions)
    if self.flips:
      batch = np.where(uniform(FLIPS, 1, 1, 1) < 0.5, batch[:, :, ::-1], batch)
    if self.grey:
      luma = ((batch.astype(np.int32) @ LUMA + 128) >> 8).astype(np.uint8)
      batch = np.where(uniform(GREYS, 1, 1, 1) < self.grey, luma[..., None], batch)
    if self.contrast > 1:
      mid_grey = (images.grey_levels - 1) / 2
      scale = self.contrast**-uniform(CONTRASTS, 1, 1, 1)
      batch = np.rint(mid_grey + scale * (batch - mid_grey)).astype(np.uint8)
    return batch


class _Workers:
  """The same batches from `count` processes: worker i makes every batch i modulo `count`."""

  def __init__(self, recipe, count):
    self._recipe, self._count = recipe, count
    self._iterator, self._next = None, None

  def __call__(self, reverts, step):
    if self._next != (reverts, step):  # the first batch, or the first after a revert
      self.close()
      self._iterator = iter(self._dataset(reverts, step))
    self._next = None
    try:
      batch = np.array(next(self._iterator))  # a copy releases the shared memory
    except RuntimeError as error:
      if 'terminated unexpectedly' not in str(error):
        raise
      raise UserError(
          f'a worker process that prepares batches has died ({reason(error)}): make sure that '
          'there is memory for all workers, in /dev/shm too, or lower --config.data.workers'
      ) from error
    self._next = (reverts, step + 1)
    return batch

  def close(self):
    """Ends the worker processes."""
    if self._iterator:
      self._iterator.close()
    self._iterator, self._next = None, None

  def _dataset(self, reverts, step):
    """Grain's IterDataset of the batches from `step` on."""
    import grain  # takes half a second, and most runs do not need it
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain reads its flags, also in programs without flags
    return (
        grain.MapDataset.range(step, sys.maxsize)
        .map(functools.partial(self._recipe, reverts))
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        .mp_prefetch(
            grain.MultiprocessingOptions(num_workers=self._count, per_worker_buffer_size=1),
            worker_init_fn=_start_worker))


def _block_signals():
  """Blocks SIGINT and SIGTERM in this thread and in the worker processes that it starts.

  Both signals are often sent to all processes of a job. The main thread of the parent process
  handles them: it may need more batches to end a run in an orderly way.
  """
  multiprocessing.get_context('spawn').Lock()  # starts a process, which unblocks them in the thread
  if hasattr(signal, 'pthread_sigmask'):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _start_worker(index, count):
  """Runs in every worker process before it makes batches."""
  del index, count
  import jax  # Grain has already imported it
  jax.config.update('jax_platforms', 'cpu')  # a worker never takes an accelerator
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
  multiprocessing.parent_process().join()  # returns however the parent ends, by SIGKILL too
  os._exit(1)

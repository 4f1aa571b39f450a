"""Settings that must be made before JAX starts. This module does not import JAX."""

import os
import platform
import signal
import sys


def restart_with_huge_pages() -> None:
  """On Linux, restarts this program once, with huge pages for glibc's malloc.

  XLA:CPU allocates a step's memory with malloc and frees it after every step: with pages of 4 KiB,
  page faults take a fifth or more of a training step. glibc reads the setting only when a program
  starts; the restart is cheap before JAX is imported. A GLIBC_TUNABLES in the environment is kept.
  Signals are blocked until the restarted program calls `preemption.leave_at_once`.
  """
  if platform.libc_ver()[0] == 'glibc' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def cores() -> int:
  """The number of CPU cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def one_device_per_core(batch_size: int) -> None:
  """On a CPU, makes its cores JAX devices: `jax.pmap` over them is faster than XLA's threads.

  The number of devices is the largest one up to the number of cores that divides the batch. Must
  run before JAX starts its backend. Does nothing if XLA_FLAGS or JAX_NUM_CPU_DEVICES is set, and
  has no effect on GPUs and TPUs.
  """
  if 'XLA_FLAGS' in os.environ or 'JAX_NUM_CPU_DEVICES' in os.environ:
    return
  import jax  # pylint: disable=g-import-not-at-top; after the restart
  count = max((n for n in range(1, cores() + 1) if batch_size % n == 0), default=1)
  jax.config.update('jax_num_cpu_devices', count)
  if count == cores():  # otherwise XLA's thread pool uses the other cores
    os.environ['XLA_FLAGS'] = '--xla_cpu_multi_thread_eigen=false'

"""What must be set before JAX starts. Importing this module does not load it."""

import os
import platform
import signal
import sys


def restart_with_huge_pages():
  """On Linux, starts this program again with glibc's malloc on huge pages; once.

  XLA:CPU takes a step's memory from malloc and gives it back after every step: with pages of 4 KiB
  a fifth or more of a training step goes into page faults. glibc reads the setting only when a
  program starts, hence the restart, which is cheap as long as JAX has not been imported. Leaves a
  GLIBC_TUNABLES of the user's alone. Signals that come meanwhile wait until the program calls
  `preemption.leave_at_once` again.
  """
  if platform.libc_ver()[0] == 'glibc' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def cores():
  """How many of the machine's this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def one_device_per_core(batch_size):
  """On a CPU, makes JAX see its cores as devices: `jax.pmap` over them beats XLA's own threads.

  As many devices as cores, or the next smaller number that divides the batch. Must run before JAX
  starts its backend. Leaves everything alone if the user has set XLA_FLAGS or
  JAX_NUM_CPU_DEVICES; changes nothing for GPUs and TPUs.
  """
  if 'XLA_FLAGS' in os.environ or 'JAX_NUM_CPU_DEVICES' in os.environ:
    return
  import jax  # pylint: disable=g-import-not-at-top; a restart must come before it
  count = max((n for n in range(1, cores() + 1) if batch_size % n == 0), default=1)
  jax.config.update('jax_num_cpu_devices', count)
  if count == cores():  # else the devices share the spare cores through XLA's thread pool
    os.environ['XLA_FLAGS'] = '--xla_cpu_multi_thread_eigen=false'

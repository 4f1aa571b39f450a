import os
import platform
import subprocess
import sys

import pytest

from tests.program import ROOT


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a setting of glibc')
@pytest.mark.parametrize('given, seen', [(None, 'glibc.malloc.hugetlb=1'), ('mine', 'mine')])
def test_restarts_once_with_the_same_arguments_and_before_jax(given, seen):
  code = (
      'import os, sys; from conv_draw.machine import startup; print("start", flush=True); '
      'startup.restart_with_huge_pages(); '
      'print(os.environ["GLIBC_TUNABLES"], sys.argv[1:], "jax" in sys.modules)')
  environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  environment |= {'GLIBC_TUNABLES': given} if given else {}
  out = subprocess.run(
      [sys.executable, '-c', code, 'a', 'b c'], cwd=ROOT, env=environment, text=True, check=True,
      stdout=subprocess.PIPE).stdout.splitlines()
  assert out == ['start'] * (1 if given else 2) + [f"{seen} ['a', 'b c'] False"]


@pytest.mark.parametrize('batch_size', [7, 64])
def test_the_number_of_devices_divides_the_batch(batch_size):
  code = (
      'import sys, jax; from conv_draw.machine import startup; '
      'startup.one_device_per_core(int(sys.argv[1])); print(jax.device_count())')
  environment = {k: v for k, v in os.environ.items()
                 if k not in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES')}
  count = int(subprocess.run(
      [sys.executable, '-c', code, str(batch_size)], cwd=ROOT, env=environment, text=True,
      check=True, stdout=subprocess.PIPE).stdout)
  cores = len(os.sched_getaffinity(0))
  assert count == max(n for n in range(1, cores + 1) if batch_size % n == 0)

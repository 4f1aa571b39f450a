"""Lossless files of models of whole numbers decode the same whoever computes."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.codec import files, lossless
from conv_draw.codec import tiling as tiling_lib
from conv_draw.codec.coder import Coder
from conv_draw.errors import UserError
from tests.autoregressive.test_integer_pixels import COLOUR, params_of
from tests.codec import numpy_decoder
from tests.program import ROOT

SIZE, TILE = (13, 17), 9


def coder_of(params, head=COLOUR):
  return Coder(LocalDraw(None, head), {'params': {'head': params}}, 'some')


@functools.cache
def coder():
  return coder_of(params_of(COLOUR)['params'])


@functools.cache
def image(channels=3):
  steps = np.random.default_rng(0).normal(0, 8, (*SIZE, channels))
  return np.clip(128 + steps.cumsum(0).cumsum(1), 0, 255).astype(np.uint8)


@functools.cache
def file():
  return coder().encode(image(), lossless=True, tile_side=TILE)


def test_whole_numbers_in_numpy_decode_it():
  """No JAX, no compiler, no floats: the same arithmetic written again."""
  tile_size = tiling_lib.tiling(SIZE, TILE).tile_size
  params = jax.tree.map(np.asarray, params_of(COLOUR))
  decoded = numpy_decoder.decode(
      COLOUR, params, file().segments[-1].payload, SIZE, tile_size,
      lossless.coders_of(tile_size, COLOUR.horizon))
  np.testing.assert_array_equal(decoded, image())


def test_sums_in_another_order_or_in_bfloat16_decode_it():
  """Hidden units and inputs permuted: the same network, whose sums are all reordered."""
  order = np.random.default_rng(1).permutation(COLOUR.features)
  params = dict(params_of(COLOUR)['params'])
  for name in ('first', 'residual_0'):
    params[f'{name}_kernel'] = params[f'{name}_kernel'][:, order]
    params[f'{name}_bias'] = params[f'{name}_bias'][order]
  for name in ('residual_0', 'last'):
    params[f'{name}_kernel'] = params[f'{name}_kernel'][order]
  other = coder_of(params, COLOUR.clone(compute_dtype=jnp.bfloat16))
  other.fingerprint = coder().fingerprint  # of another order of parameters
  np.testing.assert_array_equal(other.decode(file().data)[0], image())


def test_other_ways_to_compute_decode_it(tmp_path):
  environment = {
      'XLA_FLAGS': '--xla_cpu_max_isa=SSE4_2 --xla_backend_optimization_level=0',
      'JAX_NUM_CPU_DEVICES': '8', 'JAX_ENABLE_X64': '1', 'JAX_DEFAULT_MATMUL_PRECISION': 'bfloat16'}
  (tmp_path / 'file').write_bytes(file().data)
  np.savez(tmp_path / 'params.npz', **params_of(COLOUR)['params'])
  status = subprocess.run(
      [sys.executable, '-m', 'tests.codec.test_exact_everywhere', tmp_path], cwd=ROOT,
      env={'PATH': '', 'HOME': str(tmp_path), 'JAX_PLATFORMS': 'cpu', **environment},
      capture_output=True, text=True)
  assert status.returncode == 0 and status.stdout.split() == ['the', 'same'], status.stderr


def test_a_file_is_decoded_to_check_it_unless_not_wanted(monkeypatch):
  monkeypatch.setattr(Coder, '_decode', lambda *_, **__: 255 - image())
  with pytest.raises(UserError, match='would not decode to it'):
    coder().encode(image(), lossless=True, tile_side=TILE)
  unchecked = coder().encode(image(), lossless=True, tile_side=TILE, verify=False)
  assert unchecked.data == file().data


def test_of_no_packaged_model_the_run_has_to_be_named(tmp_path):
  (tmp_path / 'a.cdraw').write_bytes(file().data)
  with pytest.raises(UserError, match='a.cdraw was coded with the model some, .*--workdir'):
    list(files.decode(str(tmp_path / 'a.cdraw'), str(tmp_path / 'a.png')))


if __name__ == '__main__':
  with open(f'{sys.argv[1]}/file', 'rb') as f, np.load(f'{sys.argv[1]}/params.npz') as arrays:
    decoded, _, _ = coder_of(dict(arrays)).decode(f.read())
  print('the same' if np.array_equal(decoded, image()) else 'another')

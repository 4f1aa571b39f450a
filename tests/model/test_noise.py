import ast
import collections
import glob
import os

import jax
import jax.numpy as jnp
import pytest

from conv_draw.autoregressive import local_draw
from conv_draw.model import noise
from conv_draw.progressive import model as progressive
from tests.program import ROOT

CONSTANTS = {
    'DITHER': noise.DITHER, 'PLACES': local_draw.PLACES, 'PIXELS': local_draw.PIXELS,
    'FILTERED_POINTS': progressive.FILTERED_POINTS}


@pytest.mark.parametrize('iterations, layers, samples', [(0, 1, 1), (1, 3, 5), (32, 2, 50)])
def test_no_two_purposes_share_a_number(iterations, layers, samples):
  of_an_image = {'binarisation': [noise.binarisation(iterations)]}
  of_latents = {
      'latents': range(iterations),
      'layers': [noise.layer(iterations, i) for i in range(1, layers)]}
  for name, number in CONSTANTS.items():
    of_latents[name] = range(number, number + (iterations if name == 'DITHER' else 1))
  own_keys = {'samples': [noise.sample(iterations, j) for j in range(samples)]}
  # The latents of a single sample are drawn from the image's own key, those of several are not.
  for purposes in of_an_image | of_latents, of_an_image | own_keys:
    times = collections.Counter(number for numbers in purposes.values() for number in numbers)
    assert max(times.values()) == 1, times


def test_all_numbers_of_purposes_are_named():
  for folder in ('model', 'autoregressive', 'progressive', 'training'):
    for path in glob.glob(os.path.join(ROOT, 'conv_draw', folder, '*.py')):
      with open(path) as f:
        tree = ast.parse(f.read())
      for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('fold_in'):
          for part in (part for number in node.args[1:] for part in ast.walk(number)):
            assert not isinstance(part, ast.Constant), f'{path}:{node.lineno}'
            if isinstance(part, ast.Name) and part.id.isupper():
              assert part.id in CONSTANTS, f'{path}:{node.lineno}: {part.id}'


def test_noise_of_an_image_is_that_of_its_key_and_number():
  keys = noise.image_keys(jax.random.key(0), 3)
  drawn = noise.standard_normal(keys, 5, (2, 2))
  alone = noise.standard_normal(keys[1:2], 5, (2, 2))
  assert (drawn[1] == alone[0]).all() and (drawn[0] != drawn[1]).all()
  assert (drawn != noise.standard_normal(keys, noise.DITHER + 5, (2, 2))).all()
  assert noise.image_keys(keys, 3) is keys
  assert jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)

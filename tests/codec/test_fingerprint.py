import dataclasses

import jax
import numpy as np
import pytest

from conv_draw.autoregressive.local_draw import LocalDraw
from conv_draw.autoregressive.mixture_pixels import LogisticMixturePixels
from conv_draw.codec import fingerprint
from conv_draw.codec.coder import Coder
from conv_draw.model import pixels
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.progressive.pixels import SquaredErrorPixels
from conv_draw.training import trained
from conv_draw.workdir import published

PARAMS = {'params': {'a': np.ones(2, np.float32), 'b': np.zeros((2, 2), np.float32)}}


def model(**changes):
  settings = dict(channels=2, pixels=pixels.GaussianPixels(17), iterations=2, features=4)
  return ConvDraw(**(settings | changes))


def test_it_tells_arrays_and_settings_apart():
  one = fingerprint.fingerprint(model(), PARAMS)
  assert one == fingerprint.fingerprint(model(), PARAMS) and len(one) == 8
  nearly = {'params': PARAMS['params'] | {'a': np.nextafter(*np.float32([1, 2])) * np.ones(2)}}
  others = [fingerprint.fingerprint(model(), nearly)] + [
      fingerprint.fingerprint(model(**changes), PARAMS) for changes in (
          dict(iterations=3), dict(posterior='rounded'), dict(kernel=3),
          dict(pixels=pixels.GaussianPixels(16)), dict(pixels=SquaredErrorPixels(17)),
          dict(pixels=pixels.BernoulliPixels(17)), dict(pixels=LogisticMixturePixels(17)),
          dict(pixels=LogisticMixturePixels(17, mixtures=3)))]
  assert len({one, *others}) == 1 + len(others)


def test_the_name_of_a_class_is_no_part_of_it():
  @dataclasses.dataclass(frozen=True)
  class Renamed(SquaredErrorPixels):
    another: int = 3

  assert fingerprint.fingerprint(model(pixels=Renamed(17)), PARAMS) == (
      fingerprint.fingerprint(model(pixels=SquaredErrorPixels(17)), PARAMS))


@pytest.mark.parametrize('name', ['photos_lossy', 'photos_lossless'])
def test_published_weights_keep_theirs_whatever_their_parameters_are_called(name):
  run = trained.named(name)
  renamed = {'params': {f'new_{i}': leaf for i, leaf in enumerate(jax.tree.leaves(run.params))}}
  expected = Coder.load(published.path(name)).fingerprint
  assert fingerprint.fingerprint(run.model, renamed) == expected
  leaf = renamed['params']['new_0']
  renamed['params']['new_0'] = np.asarray(leaf) + np.eye(1, leaf.size).reshape(leaf.shape)
  assert fingerprint.fingerprint(run.model, renamed) != expected


@pytest.mark.parametrize('workdir', [
    *published.names(), *(f'omniglot_beta/beta_{beta}' for beta in (0.2, 0.4, 0.5, 0.6, 0.8))])
def test_the_table_has_every_published_model_that_codes(workdir):
  run = trained.named(published.path(workdir))
  found, params = run.model, run.params
  if isinstance(found, LocalDraw) and run.config.local.numbers != 'whole':
    if found.draw is None:
      return  # real numbers alone code nothing
    found, params = found.draw, {'params': params['params']['draw']}
  assert fingerprint.identity(found, params) in fingerprint.PUBLISHED

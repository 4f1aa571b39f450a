"""The public functions have type hints."""

import inspect

import pytest

import conv_draw
from conv_draw.codec.coder import Coder
from conv_draw.model.conv_draw import ConvDraw

PUBLIC = {
    'conv_draw.load': conv_draw.load, 'conv_draw.elbo': conv_draw.elbo,
    'conv_draw.loss': conv_draw.loss, 'conv_draw.bits_per_dim': conv_draw.bits_per_dim,
    **{f'ConvDraw.{name}': getattr(ConvDraw, name)
       for name in ('__call__', 'reconstruct', 'sample', 'unit_interval')},
    **{f'{kind.__name__}.{name}': function
       for kind in (conv_draw.GaussianPixels, conv_draw.BernoulliPixels,
                    conv_draw.LogisticMixturePixels, Coder)
       for name, function in vars(kind).items()
       if not name.startswith('_') and callable(function)},
    'Coder.load': Coder.load}


@pytest.mark.parametrize('name', PUBLIC)
def test_public_functions_have_types(name):
  signature = inspect.signature(PUBLIC[name])
  empty = inspect.Parameter.empty
  assert signature.return_annotation is not empty
  untyped = [p for p in signature.parameters.values() if p.annotation is empty and p.name != 'self']
  assert not untyped


def test_public_names_exist():
  assert all(hasattr(conv_draw, name) for name in conv_draw.__all__)
  assert len(PUBLIC) > 25

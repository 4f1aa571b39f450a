import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conv_draw import GaussianPixels
from conv_draw.model import weights
from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.latents import Bins
from conv_draw.model.layers import Layer
from conv_draw.model.vae import Vae

SHARED = dict(channels=2, pixels=GaussianPixels(17), features=3, latents=2, kernel=3)
MODELS = {
    # Not 'rounded', in which quantisation steps have no gradient.
    'two layers': ConvDraw(
        **SHARED, iterations=2, upper=(Layer(4, 1, 2),), posterior='uniform',
        bins=Bins(gain=3.0), winograd=False),
    'fully connected': ConvDraw(**SHARED, iterations=2, stride=0, image_size=(7, 9)),
    'vae': Vae(**SHARED, upper=(Layer(4, 1, 2),))}


@pytest.mark.parametrize('model', MODELS.values(), ids=MODELS)
def test_roles_say_what_generation_reads(model, images):
  key = jax.random.key(0)
  noise = np.random.default_rng(0)
  params = jax.tree.map(  # no zeros, by which gradients would be multiplied
      lambda x: 0.3 * noise.normal(size=x.shape).astype(np.float32),
      jax.eval_shape(model.init, key, key, images))
  weigh = noise.normal(size=(3, 7, 9, 4))

  @jax.jit
  @jax.grad
  def gradient(params):
    return (weigh * model.apply(params, key, 3, (7, 9), method='sample')).sum()

  read = {
      name: any(jnp.any(g != 0) for g in jax.tree.leaves(below))
      for name, below in gradient(params)['params'].items()}
  assert read == {
      name: model.role((name,)).used_by != weights.INFERENCE for name in params['params']}


def test_every_field_has_a_role():
  assert weights.role('decoder_h_d_2') == weights.role('decoder_h_d')
  assert set(weights.Weights._fields) < set(weights.ROLES)

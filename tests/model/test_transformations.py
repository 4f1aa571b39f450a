"""The model under transformations of JAX, compared with the plain call."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from conv_draw import GaussianPixels
from conv_draw.model import objective
from conv_draw.model.conv_draw import ConvDraw

B, SIZE = 2, (5, 6)
IMAGES = np.random.default_rng(0).integers(0, 17, (B, *SIZE, 1)).astype(np.uint8)
WINOGRAD = ConvDraw(
    channels=1, pixels=GaussianPixels(17), iterations=2, features=3, latents=2, kernel=3)
MODEL = WINOGRAD.clone(winograd=False)  # compiles faster, and has forward-mode derivatives

equal = functools.partial(jax.tree.map, functools.partial(
    np.testing.assert_allclose, rtol=1e-4, atol=1e-4))
at = lambda tree, i: jax.tree.map(lambda x: x[i], tree)


@functools.cache
def draw(seed):
  """Random numbers in the shape of the parameters."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32),
                      jax.eval_shape(MODEL.init, jax.random.key(0), jax.random.key(0), IMAGES))


PARAMS, DIRECTION = draw(0), draw(1)


@functools.cache
def keys():
  return jax.random.split(jax.random.key(7), B)


def run(params, keys, images):
  """What `apply`, `elbo` and `sample` say of images, [B, ...] each."""
  inference = MODEL.apply(params, keys, images)
  return {
      'canvas': inference.canvas, 'kl_nats': inference.kl_nats.transpose(2, 0, 1),
      'nats': objective.elbo(MODEL, images, inference).nats,
      'sample': MODEL.apply(params, keys, len(images), SIZE, method='sample')}


def nats(params, model=MODEL):
  """The scalar that is differentiated."""
  return objective.elbo(model, IMAGES, model.apply(params, keys(), IMAGES)).nats.mean()


@functools.cache
def gradient():
  return jax.jit(jax.grad(nats))(PARAMS)


@functools.cache
def expected():
  """Of `run`, in an unmapped call."""
  return jax.jit(run)(PARAMS, keys(), IMAGES)


def along(scale):
  """The parameters, moved along the direction."""
  return jax.tree.map(lambda x, d: x + np.float32(scale) * d, PARAMS, DIRECTION)


def vdot(a, b):
  return sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_vmap_over_keys_and_over_parameters():
  of_keys = jax.vmap(run, (None, 0, None))
  values = jax.jit(jax.vmap(of_keys, (0, None, None)))(
      jax.tree.map(lambda *x: np.stack(x), along(0.1), PARAMS),
      jnp.stack([keys()[::-1], keys()]), IMAGES)
  equal(at(values, (1, 1)), expected())
  for other in ((0, 1), (1, 0)):
    assert abs(values['canvas'][other] - expected()['canvas']).max() > 1e-3


def scan():
  body = lambda carry, both: (carry, run(PARAMS, *both))
  _, values = jax.jit(lambda: jax.lax.scan(body, 0, (keys()[:, None], IMAGES[:, None])))()
  return at(values, (slice(None), 0))


def pmap():
  values = jax.pmap(run, in_axes=(None, 0, 0), devices=jax.devices()[:B])(
      PARAMS, keys()[:, None], IMAGES[:, None])
  return at(values, (slice(None), 0))


def split(axis_type):
  """(mesh, arguments of `run` with images and keys split between its devices)."""
  mesh = jax.make_mesh((B,), ('d',), axis_types=(axis_type,))
  place = lambda x, *axes: jax.device_put(x, NamedSharding(mesh, P(*axes)))
  return mesh, (jax.tree.map(place, PARAMS), place(keys(), 'd'), place(IMAGES, 'd'))


def shard_map(axis_type):
  mesh, given = split(axis_type)
  return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(P(), P('d'), P('d')), out_specs=P('d'),
                               check_vma=False))(*given)


def split_arrays(axis_type):
  mesh, given = split(axis_type)
  function = run
  if axis_type == AxisType.Explicit:
    function = jax.sharding.auto_axes(run, axes='d', out_sharding=P('d'))
  with jax.set_mesh(mesh):
    values = jax.jit(function)(*given)
  assert len(values['canvas'].sharding.device_set) == B
  return values


def exported():
  found = export.export(jax.jit(run))(PARAMS, keys(), IMAGES)
  if importlib.util.find_spec('flatbuffers'):  # which JAX serialises with
    found = export.deserialize(found.serialize())
  return found.call(PARAMS, keys(), IMAGES)


CALLS = {
    'without jit': lambda: run(PARAMS, keys(), IMAGES), 'scan': scan, 'pmap': pmap,
    'export': exported,
    **{f'{function.__name__}, {kind.name}': functools.partial(function, kind)
       for function in (shard_map, split_arrays) for kind in (AxisType.Auto, AxisType.Explicit)}}


@pytest.mark.parametrize('name', CALLS)
def test_values_are_those_of_the_plain_call(name):
  equal(CALLS[name](), expected())


def test_gradient_is_the_slope():
  slope = (jax.jit(nats)(along(0.01)) - jax.jit(nats)(along(-0.01))) / 0.02
  np.testing.assert_allclose(vdot(gradient(), DIRECTION), slope, rtol=1e-2)


def test_forward_mode():
  value, slope = jax.jit(lambda: jax.jvp(nats, (PARAMS,), (DIRECTION,)))()
  np.testing.assert_allclose(value, expected()['nats'].mean(), rtol=1e-5)
  np.testing.assert_allclose(slope, vdot(gradient(), DIRECTION), rtol=1e-4)


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='Winograd is the path of CPUs')
def test_forward_mode_needs_plain_convolutions():
  with pytest.raises(TypeError, match='custom_vjp'):
    jax.jit(lambda: jax.jvp(
        functools.partial(nats, model=WINOGRAD), (PARAMS,), (DIRECTION,))).lower()


@pytest.mark.parametrize('model', [WINOGRAD, MODEL], ids=['winograd', 'plain'])
def test_checkpoint_and_vmap_of_gradients(model):
  function = jax.grad(jax.checkpoint(functools.partial(nats, model=model)))
  found = jax.jit(jax.vmap(function))(jax.tree.map(lambda *x: np.stack(x), along(0.1), PARAMS))
  equal(at(found, 1), gradient())


def product(model, forward):
  """The Hessian times the direction."""
  function = jax.grad(functools.partial(nats, model=model))
  if forward:
    return jax.jit(lambda: jax.jvp(function, (PARAMS,), (DIRECTION,))[1])()
  return jax.jit(jax.grad(lambda params: vdot(function(params), DIRECTION)))(PARAMS)


@functools.cache
def hessian_vector_product():
  return product(MODEL, forward=True)


def close(a, b, tolerance):
  """Whether the trees differ by less than that part of their length."""
  difference = jax.tree.map(jnp.subtract, a, b)
  return vdot(difference, difference) < tolerance**2 * vdot(b, b)


def test_hessian_vector_product_is_the_change_of_the_gradient():
  change = jax.tree.map(
      lambda a, b: (a - b) / 0.01,
      *(jax.jit(jax.grad(nats))(along(scale)) for scale in (0.005, -0.005)))
  assert close(hessian_vector_product(), change, 0.01)


@pytest.mark.parametrize('model', [WINOGRAD, MODEL], ids=['winograd', 'plain'])
def test_hessian_vector_product_in_reverse_mode(model):
  assert close(product(model, forward=False), hessian_vector_product(), 1e-3)

"""Rounding with the gradient of the identity: straight-through (Bengio et al., 2013)."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def floor(x):
  return jnp.floor(x)


@jax.custom_jvp
def nearest(x):
  """Halves to even."""
  return jnp.round(x)


for _f in (floor, nearest):
  _f.defjvp(lambda primals, tangents, f=_f: (f(*primals), tangents[0]))

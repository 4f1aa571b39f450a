"""Convolutional DRAW in plain convolutions: equations (1) to (7) and figure 2. Read this first.

The tests compare `conv_draw.ConvDraw` with this function. `ConvDraw` computes the same convolutions
faster: those of x once for all iterations, several as one, and those between image and maps at the
maps' own resolution. `recurrence` has the diagram.
"""

from typing import Any

import jax
import jax.numpy as jnp

from conv_draw.model.conv_draw import ConvDraw
from conv_draw.model.latents import DiagonalGaussian, kl_divergence


def paper(
    model: ConvDraw, params: Any, keys: jax.Array, images: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Infers the latents of images: z_t ~ q_t at every iteration.

  Args:
    model: the sizes of a model with Gaussian posteriors.
    params: its parameters.
    keys: [B], one per image.
    images: [B, H, W, C] of 0..grey_levels-1.
  Returns:
    (canvas r_T [B, H, W, R], KL(q_t | p_t) in nats [T, L, B]).
  """
  p, stack = params['params'], model.all_layers
  name = lambda n, i: n if i == 0 else f'{n}_{i + 1}'
  x = images / (model.pixels.grey_levels - 1)
  b, layers = len(x), range(len(stack))
  sizes = [x.shape[1:3]]  # of the image, then of each layer's maps
  for layer in stack:
    sizes.append(tuple(-(-n // layer.stride) for n in sizes[-1]) if layer.stride else (1, 1))
  h_e, c_e, h_d, c_d = (
      [jnp.zeros((b, *sizes[i + 1], stack[i].features)) for i in layers] for _ in range(4))
  r = jnp.broadcast_to(p['initial_canvas'], (b, *sizes[0], p['initial_canvas'].shape[-1]))

  def from_above(i, reader):  # h^d of the layer above, as layer i reads it
    if i + 1 == len(stack):
      return 0
    above = transposed(h_d[i + 1], p[f'down_{i + 2}'], stack[i + 1].stride, h_d[i].shape)
    return conv(above, p[name(f'{reader}_above', i)])

  kls = []
  for t in range(model.iterations):
    posteriors, kl = [], [None] * len(stack)
    error = x - model.pixels.mean(r)  # (1)
    for i in layers:
      if i == 0:
        below = (conv(x, p['encoder_image'], stack[i].stride)
                 + conv(error, p['encoder_error'], stack[i].stride))
      else:
        below = conv(h_e[i - 1], p[name('encoder_below', i)], stack[i].stride)
      h_e[i], c_e[i] = lstm(
          below + conv(h_e[i], p[name('encoder_h_e', i)]) + conv(h_d[i], p[name('encoder_h_d', i)])
          + from_above(i, 'encoder') + p[name('encoder_bias', i)], c_e[i])  # (2)
      posteriors.append(DiagonalGaussian.split(
          conv(h_e[i], p[name('posterior', i)]) + p[name('posterior_bias', i)]))  # (3)
    for i in reversed(layers):
      prior = DiagonalGaussian.split(
          conv(h_d[i], p[name('prior', i)]) + from_above(i, 'prior')
          + p[name('prior_bias', i)])  # (4)
      z = posteriors[i].at(noise(keys, t, i, model.iterations, posteriors[i].mean.shape))
      kl[i] = kl_divergence(posteriors[i], prior).sum((1, 2, 3))  # (5)
      read = conv(r, p['decoder_canvas'], stack[0].stride) if i == 0 else 0
      h_d[i], c_d[i] = lstm(
          conv(z, p[name('decoder_latent', i)]) + conv(h_d[i], p[name('decoder_h_d', i)])
          + from_above(i, 'decoder') + read + p[name('decoder_bias', i)], c_d[i])  # (6)
    r = r + transposed(h_d[0], p['write'], stack[0].stride, r.shape)  # (7)
    kls.append(jnp.stack(kl))
  return r, jnp.stack(kls)


def conv(x, kernel, stride=1):
  """Zero-padded convolution of [B, H, W, I] with a stride; with stride 0, all of x to one cell."""
  if stride == 0:
    return (x.reshape(len(x), -1) @ kernel[0, 0])[:, None, None]
  reach = kernel.shape[0] // 2
  last = [(-(-m // stride) - 1) * stride for m in x.shape[1:3]]  # centre of the last output
  padding = [(reach, max(0, i + reach - (m - 1))) for i, m in zip(last, x.shape[1:3], strict=True)]
  return jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def transposed(h, kernel, stride, shape):
  """The adjoint of `conv`, from maps h back to an array of that shape."""
  return jax.linear_transpose(lambda r: conv(r, kernel, stride), jnp.zeros(shape))(h)[0]


def lstm(gates, cell):
  """(hidden, cell), given the pre-activations of input, forget, output gate and candidate."""
  i, f, o, u = jnp.split(gates, 4, -1)
  cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(u)
  return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def noise(keys, t, layer, iterations, shape):
  """[B, h, w, Z] draws of N(0, 1) for z_t of a layer, each image's from its own key."""
  def draw(key):
    if layer:
      key = jax.random.fold_in(key, iterations + layer)
    return jax.random.normal(jax.random.fold_in(key, t), shape[1:])

  return jax.vmap(draw)(keys)

import jax
import numpy as np
import optax

from conv_draw.progressive import weights
from conv_draw.training import steps
from experiments import default
from tests.progressive.small import begun

SHAPES = {'encoder_image': (4, 4, 3, 8), 'encoder_error': (4, 4, 3, 8), 'encoder_h_e': (3, 3, 2, 8),
          'encoder_h_d': (3, 3, 4, 8), 'encoder_bias': (8,), 'posterior': (3, 3, 2, 6),
          'posterior_bias': (6,)}


def test_an_encoder_is_left_out_of_parameters_and_optimiser_states():
  """What an optimiser keeps of a model with an encoder, as checkpoints have it, and without."""
  model, params = begun()
  config = default.get_config()
  config.train.optimizer = 'muon'
  optimizer = steps.create_optimizer(config, model)
  tree = {'params': params, 'opt_state': optimizer.init(params)}
  old = weights.with_encoder(tree, SHAPES)
  assert {name: value.shape for name, value in old['params']['params'].items()
          if name in SHAPES} == SHAPES
  added = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  size = sum(np.prod(shape) for shape in SHAPES.values())
  moments = added(old['opt_state']) - added(tree['opt_state'])
  kernels = sum(np.prod(SHAPES[name]) for name in SHAPES
                if name.startswith('encoder') and name != 'encoder_bias')
  assert added(old['params']) - added(tree['params']) == size
  assert moments == kernels + 2 * (size - kernels)  # one of Muon's, two of Adam's
  back = weights.without_encoder(old)
  assert jax.tree.structure(back) == jax.tree.structure(tree)
  assert not optax.tree.norm(jax.tree.map(lambda a, b: a - b, back, tree))
  other = {'params': {'encoder_image': np.zeros(3)}}
  assert weights.without_encoder(other) == other and not weights.encoder_of(other['params'])

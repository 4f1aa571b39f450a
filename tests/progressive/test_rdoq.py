import numpy as np

from conv_draw.model import latents
from conv_draw.model.latents import DiagonalGaussian
from conv_draw.progressive import rdoq


def test_bins_cost_least_of_those_that_are_tried():
  """The nearest bin, the next one towards the mean, and the mean's own."""
  rng = np.random.default_rng(0)
  position = np.concatenate([rng.normal(0, 4, 3000), [0.5, -1.5, 7.0]]).astype(np.float32)
  mean = rng.normal(0, 3, position.shape).astype(np.float32)
  p = DiagonalGaussian(mean, rng.uniform(-2, 2, position.shape).astype(np.float32))
  for weight in (0.5, 4.0, 30.0):
    chosen = np.asarray(rdoq.best_bin(position, p, weight))
    nearest = np.round(position)
    tried = np.stack([nearest, nearest - np.sign(nearest - mean) * (abs(nearest - mean) > 0.5),
                      np.round(mean)])
    costs = weight * (tried - position) ** 2 - np.asarray(latents.log_bin_mass(p, tried, 1.0))
    its = weight * (chosen - position) ** 2 - np.asarray(latents.log_bin_mass(p, chosen, 1.0))
    assert (tried == chosen).any(0).all()
    np.testing.assert_allclose(its, costs.min(0), rtol=1e-4, atol=1e-4)
    assert (chosen != nearest).mean() > 0.05

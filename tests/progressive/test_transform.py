import numpy as np

from conv_draw.progressive import transform


def test_interlaced_passes_code_all_cells_once():
  passes = np.stack([
      transform.interlaced(t, (5, 4))[..., 0] for t in range(transform.INTERLACED)])
  np.testing.assert_array_equal(passes.sum(0), 1)
  assert passes[0].sum() == 6 and passes[1].sum() == 4
  assert transform.interlaced(transform.INTERLACED, (5, 4)).all()


def test_between_the_cells_of_the_first_pass_lies_their_mean():
  z = np.zeros((1, 5, 4, 1), np.float32)
  z[0, ::2, ::2, 0] = [[1, 3], [5, 7], [9, 11]]
  spread = np.asarray(transform._interpolated(z, 0))[0, ..., 0]
  np.testing.assert_allclose(spread, [
      [1, 2, 3, 3], [3, 4, 5, 5], [5, 6, 7, 7], [7, 8, 9, 9], [9, 10, 11, 11]])
  np.testing.assert_allclose(transform._interpolated(z, 2), z)

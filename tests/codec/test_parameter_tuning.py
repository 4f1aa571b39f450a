import numpy as np
import pytest

from conv_draw.codec import parameter_tuning
from conv_draw.errors import UserError
from tests.codec.test_exact_everywhere import coder, image


def test_rices_code_holds_any_offsets():
  rng = np.random.default_rng(0)
  for scale in (0, 0.3, 2, 20, 500):
    offsets = np.clip(np.rint(rng.laplace(0, scale, 300)), -127, 127).astype(int)
    data = parameter_tuning.to_bytes(offsets)
    np.testing.assert_array_equal(parameter_tuning.from_bytes(data, 300), offsets)
    assert len(data) * 8 <= 16 + 300 * (2.5 + np.log2(1 + 2 * scale)) * (scale > 0)
    for bad in (data[:-1], data + b'\0') if data else ():
      with pytest.raises(UserError):
        parameter_tuning.from_bytes(bad, 300)
  for seed in range(100):  # never anything else than a change or an error
    data = np.random.default_rng(seed).bytes(40)
    try:
      assert parameter_tuning.to_bytes(parameter_tuning.from_bytes(data, 20)) == data
    except UserError:
      pass


def test_a_model_that_is_fitted_to_an_image_takes_fewer_bytes():
  tiled = np.tile(image(), (4, 4, 1))
  plain, fitted = (coder().encode(tiled, lossless=True, effort=effort) for effort in (0, 1))
  assert len(fitted.data) < 0.97 * len(plain.data)
  np.testing.assert_array_equal(coder().decode(fitted.data)[0], tiled)

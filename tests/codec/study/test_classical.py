import numpy as np
import pytest

from conv_draw.codec.study import classical
from conv_draw.report import pictures


@pytest.mark.parametrize('channels', [1, 3])
def test_settings_do_what_they_say(channels):
  rows, columns = np.mgrid[:48, :64]
  image = (128 + 60 * np.sin(rows / 7) + 50 * np.cos(columns / 9)).astype(np.uint8)
  image = np.stack([image, 255 - image, image // 2], -1)[..., :channels]
  for setting in classical.lossless():
    size, decoded = classical.encode(image, setting)
    np.testing.assert_array_equal(decoded, image)
    assert 50 < size < image.size
  by_codec = {}
  for setting in classical.lossy():
    size, decoded = classical.encode(image, setting)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    by_codec.setdefault(setting.codec, []).append((size, pictures.psnr_db(image, decoded)))
  assert set(by_codec) == {'JPEG', 'JPEG 2000', 'WebP', 'AVIF', 'JPEG XL'}
  for found in by_codec.values():  # from bad to good
    assert found[0][0] < found[-1][0] and found[0][1] < found[-1][1] - 5

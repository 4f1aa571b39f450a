import numpy as np
import pytest

from conv_draw.codec import tiling as tiling_lib


@pytest.mark.parametrize('size', [(1, 1), (7, 9), (512, 512), (512, 513), (1000, 3), (65, 129)])
@pytest.mark.parametrize('side', [0, 1, 5, 64, 512])
def test_every_pixel_is_in_one_tile(size, side):
  tiling = tiling_lib.tiling(size, side)
  assert not side or max(tiling.tile_size) <= side
  numbers = [n for chunk in tiling.chunks() for n in chunk]
  assert numbers == list(range(tiling.count))
  if tiling.count > 2000:
    return
  seen = np.zeros(size, int)
  for number in numbers:
    seen[tiling.slices(number)] += 1
  assert (seen == 1).all()
  padding = tiling.count * np.prod(tiling.tile_size) - np.prod(size)
  assert padding <= sum(tiling.grid) * max(tiling.tile_size) * max(tiling.grid)


def test_cut_and_paste():
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (70, 101, 3)).astype(np.uint8)
  tiling = tiling_lib.tiling(image.shape[:2], 32)
  back = np.zeros_like(image)
  for numbers in tiling.chunks():
    parts, valid = tiling.cut(image, numbers), tiling.valid(numbers)
    assert parts.shape == (tiling.batch, *tiling.tile_size, 3)
    assert valid.shape == (len(numbers), *tiling.tile_size)
    tiling.paste(back, np.where(valid[..., None], parts[: len(valid)], 77), numbers)
  np.testing.assert_array_equal(back, image)


def test_memory_is_bounded():
  for stride, most in ((0, 2**18), (2, 2**18), (8, 2**20)):
    assert tiling_lib.max_pixels(stride) == most
    for size in ((512, 512), (513, 512), (6000, 8000), (1, 65_535), (65_535, 1000)):
      tiling = tiling_lib.tiling(size, tiling_lib.default_tile_side(size, most), most)
      assert tiling.batch * np.prod(tiling.tile_size) <= most
      assert tiling.count == 1 or np.prod(size) > most
  assert tiling_lib.tiling((320, 320), 32).batch == 100


def test_sizes_are_padded_by_little():
  for size in ((1, 8), (481, 321), (257, 129), (512, 768), (513, 1000), (4000, 3000)):
    for n, padded in zip(size, tiling_lib.padded_size(size), strict=True):
      assert n <= padded <= max(8, 1.13 * n)
  assert tiling_lib.padded_size((481, 321)) == tiling_lib.padded_size((500, 350))

import numpy as np
from PIL import Image

from conv_draw import data, figures, steps
from conv_draw import model as model_lib


def test_grid_keeps_every_pixel_in_its_place(tmp_path):
  grid = np.random.default_rng(0).integers(0, 256, (2, 3, 70, 65, 3)).astype(np.uint8)
  path = str(tmp_path / 'figures' / 'grid.png')
  figures.save_grid(path, grid)
  picture = np.asarray(Image.open(path))
  assert picture.shape == (2 * 72, 3 * 67, 3)
  np.testing.assert_array_equal(picture[72 + 1 : 72 + 71, 2 * 67 + 1 : 2 * 67 + 66], grid[1, 2])


def test_small_grey_images_are_enlarged(tmp_path):
  path = str(tmp_path / 'grid.png')
  figures.save_grid(path, np.full((1, 2, 8, 8, 1), 7, np.uint8))
  picture = np.asarray(Image.open(path))
  assert picture.shape == (66, 2 * 66) and (picture[1:65, 1:65] == 7).all()


def test_reconstructions_show_originals_then_rising_t(config):
  images = data.load(config.data, 'test')
  model = model_lib.from_config(config, 1, images.levels)
  state = steps.create_state(config, model, steps.create_optimizer(config), images.shape)
  np.testing.assert_array_equal(figures.stored_groups(3), [0, 1, 2, 3])
  np.testing.assert_array_equal(figures.stored_groups(32), np.arange(0, 33, 4))
  grid = figures.reconstructions(config, model, state.params, images, temperature=0.0)
  assert grid.shape == (5, 3, 8, 8, 1)
  original = images.fetch(np.array([0, 149, 299]))
  np.testing.assert_array_equal(grid[0], np.round(original * (255 / 16)).astype(np.uint8))
  assert (grid[1] == grid[1, :1]).all()  # nothing stored, prior mean: the same for all
  assert (grid[4] != grid[4, :1]).any()

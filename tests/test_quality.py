import numpy as np
import pytest
from scipy import ndimage

from conv_draw import quality


def picture(shape, seed=0):
  """Something smooth, uint8."""
  noise = np.random.default_rng(seed).normal(size=shape)
  smooth = ndimage.gaussian_filter(noise, (3, 3, 0))
  return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def noisy(image, sigma, seed=1):
  noise = np.random.default_rng(seed).normal(scale=sigma, size=image.shape)
  return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def test_ssim_is_that_of_its_definition():
  a = picture((16, 17, 1))
  b = noisy(a, 20)
  x = np.arange(-5, 6)
  window = np.exp(-(x**2) / (2 * 1.5**2))
  window = np.outer(window, window) / window.sum() ** 2
  values = []
  for i in range(6):
    for j in range(7):
      p, q = (im[i : i + 11, j : j + 11, 0].astype(float) for im in (a, b))
      mean = lambda v: (window * v).sum()
      vp, vq = mean(p * p) - mean(p) ** 2, mean(q * q) - mean(q) ** 2
      c = mean(p * q) - mean(p) * mean(q)
      c1, c2 = 2.55**2, 7.65**2
      values.append((2 * mean(p) * mean(q) + c1) * (2 * c + c2) / (
          (mean(p) ** 2 + mean(q) ** 2 + c1) * (vp + vq + c2)))
  assert quality.ssim(a, b) == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.parametrize('measure, shape', [
    (quality.ssim, (32, 32, 3)), (quality.ssim, (8, 8, 1)), (quality.ms_ssim, (180, 176, 3))])
def test_worse_pictures_are_less_similar(measure, shape):
  a = picture(shape)
  values = [measure(a, noisy(a, sigma)) for sigma in (0, 5, 20, 80)]
  assert values[0] == pytest.approx(1) and (np.diff(values) < 0).all() and values[-1] < 0.8


def test_small_images_have_ssim_large_ones_ms_ssim():
  small, large = picture((32, 32, 1)), picture((176, 180, 1))
  assert quality.metric([small]) == quality.metric([large, small]) == 'SSIM'
  assert quality.metric([large]) == 'MS-SSIM'
  for images, measure in (([small], quality.ssim), ([large], quality.ms_ssim)):
    decoded = [noisy(image, 20) for image in images]
    assert quality.similarity(images, decoded) == measure(images[0], decoded[0])


def test_psnr():
  a = np.random.default_rng(0).integers(0, 250, (2, 8, 9, 3)).astype(np.uint8)
  assert quality.psnr_db(a, a) == np.inf
  for b in (a + np.uint8(5), a + 5.0):
    assert quality.psnr_db(a, b) == pytest.approx(20 * np.log10(255 / 5))
    assert quality.psnr_db(b, a) == pytest.approx(20 * np.log10(255 / 5))  # unsigned or not
  assert quality.psnr_db(a, a + np.uint8(5), peak=16) == pytest.approx(20 * np.log10(16 / 5))

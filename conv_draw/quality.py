"""How close decoded images are to their originals: PSNR, SSIM, MS-SSIM."""

import concurrent.futures

import numpy as np
import scipy  # imports scipy.ndimage when it is used: decoding needs PSNR alone

from conv_draw.machine import startup

SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window: 11x11 pixels
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of scales 1, 1/2, ... (Wang et al., 2003)
MS_LEAST_SIDE = (2 * RADIUS + 1) * 2 ** (len(MS_WEIGHTS) - 1)  # 176 pixels


def psnr_db(images: np.ndarray, decoded: np.ndarray, peak: int = 255) -> float:
  """Peak signal-to-noise ratio in dB, of the mean over two arrays of one shape; inf if equal.

  Args:
    images, decoded: values 0..`peak`, of any type.
  """
  return psnr_of(np.mean((images.astype(np.float64) - decoded) ** 2), peak)


def psnr_of(squared_error: float, peak: int = 255) -> float:
  """Peak signal-to-noise ratio in dB of a mean squared error; inf if that is 0."""
  return float('inf') if squared_error == 0 else float(10 * np.log10(peak**2 / squared_error))


def metric(images: list[np.ndarray]) -> str:
  """'MS-SSIM' or, if an image [H, W, C] is too small for it, 'SSIM'."""
  return 'MS-SSIM' if min(min(i.shape[:2]) for i in images) >= MS_LEAST_SIDE else 'SSIM'


def similarity(images: list[np.ndarray], decoded: list[np.ndarray]) -> float:
  """The mean of `metric` over images [H, W, C] uint8."""
  measure = ms_ssim if metric(images) == 'MS-SSIM' else ssim
  with concurrent.futures.ThreadPoolExecutor(startup.cores()) as pool:
    return float(np.mean(list(pool.map(measure, images, decoded))))


def ssim(image: np.ndarray, decoded: np.ndarray) -> float:
  """Structural similarity (Wang et al., 2004) of [H, W, C] uint8, averaged over channels.

  Windows lie within the image; in an image smaller than a window, they reach over its mirrored
  edges.
  """
  full, _ = _maps(image.astype(np.float64), decoded.astype(np.float64))
  return float(full.mean())


def ms_ssim(image: np.ndarray, decoded: np.ndarray) -> float:
  """Multi-scale structural similarity (Wang et al., 2003) of [H, W, C] uint8."""
  a, b, result = image.astype(np.float64), decoded.astype(np.float64), 1.0
  for scale, weight in enumerate(MS_WEIGHTS):
    full, contrast = _maps(a, b)
    last = scale == len(MS_WEIGHTS) - 1
    # Means of anticorrelated images are negative and have no real powers.
    result = result * np.maximum((full if last else contrast).mean((0, 1)), 0) ** weight
    a, b = _halved(a), _halved(b)
  return float(result.mean())


def _maps(a, b):
  """(SSIM, its contrast and structure term alone) around every pixel, [h, w, C]."""
  c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
  blur = lambda x: scipy.ndimage.gaussian_filter(x, (SIGMA, SIGMA, 0), radius=(RADIUS, RADIUS, 0))
  mean_a, mean_b = blur(a), blur(b)
  variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
  covariance = blur(a * b) - mean_a * mean_b
  contrast = (2 * covariance + c2) / (variance_a + variance_b + c2)
  full = contrast * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
  if min(a.shape[:2]) > 2 * RADIUS:
    inside = (slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS))
    full, contrast = full[inside], contrast[inside]
  return full, contrast


def _halved(x):
  """Means of 2x2 pixels, without an odd last row or column."""
  h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
  x = x[:h, :w]
  return (x[0::2, 0::2] + x[1::2, 0::2] + x[0::2, 1::2] + x[1::2, 1::2]) / 4

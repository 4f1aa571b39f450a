"""JPEG, JPEG 2000, WebP, AVIF, PNG and JPEG XL, as Pillow has them: what ours is compared with."""

import io
from typing import NamedTuple

import numpy as np
import pillow_jxl  # noqa: F401, it adds itself to Pillow
from PIL import Image

QUALITIES = (1, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 70, 80, 88, 94, 98)
RATIOS = (400, 250, 160, 100, 70, 50, 40, 30, 24, 20, 16, 12, 10, 8, 6, 5, 4, 3)  # JPEG 2000


class Setting(NamedTuple):
  """One way to store an image."""

  codec: str
  name: str
  format: str  # Pillow's
  options: dict


def lossy():
  """Every `Setting` of the lossy codecs, from bad to good."""
  settings = []
  for quality in QUALITIES:
    for sampling in ('4:2:0', '4:4:4'):
      settings.append(Setting('JPEG', f'quality {quality}, {sampling}', 'JPEG', dict(
          quality=quality, subsampling=sampling, optimize=True)))
    settings.append(Setting('WebP', f'quality {quality}', 'WEBP', dict(quality=quality, method=6)))
    settings.append(Setting('JPEG XL', f'quality {quality}', 'JXL', dict(
        quality=quality, effort=7)))
    for sampling in ('4:2:0', '4:4:4'):
      settings.append(Setting('AVIF', f'quality {quality}, {sampling}', 'AVIF', dict(
          quality=quality, subsampling=sampling, speed=4)))
  for ratio in RATIOS:
    settings.append(Setting('JPEG 2000', f'ratio {ratio}', 'JPEG2000', dict(
        quality_mode='rates', quality_layers=[ratio], irreversible=True)))
  return settings


def lossless():
  """The `Setting`s that give the image back."""
  return [
      Setting('PNG', 'optimised', 'PNG', dict(optimize=True)),
      Setting('WebP', 'lossless', 'WEBP', dict(lossless=True, quality=100, method=6)),
      Setting('JPEG 2000', 'lossless', 'JPEG2000', dict(irreversible=False)),
      Setting('JPEG XL', 'lossless, effort 9', 'JXL', dict(lossless=True, effort=9))]


def encode(image, setting):
  """[H, W, C] uint8 -> (size of the file in bytes, [H, W, C] uint8 decoded from it)."""
  data = io.BytesIO()
  grey = image.shape[-1] == 1
  Image.fromarray(image[..., 0] if grey else image).save(data, setting.format, **setting.options)
  decoded = np.asarray(Image.open(data).convert('L' if grey else 'RGB'))
  return len(data.getvalue()), decoded.reshape(image.shape)

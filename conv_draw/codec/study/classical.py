"""JPEG, JPEG 2000, WebP, AVIF, PNG and JPEG XL, as Pillow has them: what ours is compared with.

Each in the settings that serve the measures of the study, PSNR or (MS-)SSIM; what was tried, on
photographs of no test set, and why these are in use: docs/lossy.md, "The other codecs' settings".
"""

import io
from typing import NamedTuple

import numpy as np
import pillow_jxl  # noqa: F401, it adds itself to Pillow
from PIL import Image

WEBP_QUALITIES = (0, 2, 5, 10, 18, 28, 40, 55, 70, 80, 88, 94, 98)
JPEG_QUALITIES = (3, 5, 8, 12, 18, 28, 40, 55, 70, 80, 88, 94, 97)
JPEG_SEQUENTIAL = 18  # up to this quality; scans of their own cost small files more than they save
JPEG_STEPS = (115, 80, 56, 40, 28, 20, 14, 10, 7, 5, 3)  # of flat tables
# Flat tables' steps of chroma, relative to luma's: a halved chroma sample is worth more.
JPEG_CHROMA = {'4:2:0': 0.7, '4:4:4': 1.0}
JPEG_2000_RATIOS = (400, 160, 80, 160 / 3, 40, 20, 10, 5, 3)
JPEG_2000_PSNR_DB = (22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 46)
AVIF_QUALITIES = (2, 10, 20, 30, 40, 50, 60, 72, 84, 94)
JPEG_XL_QUALITIES = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 88, 94)


class Setting(NamedTuple):
  """One way to store an image."""

  codec: str
  name: str
  format: str  # Pillow's
  options: dict


def lossy():
  """Every `Setting` of the lossy codecs, each kind of them from bad to good."""
  return [*_jpeg(), *_jpeg_2000(), *_webp(), *_jpeg_xl(), *_avif()]


def lossless():
  """The `Setting`s that give the image back."""
  return [
      Setting('PNG', 'optimised', 'PNG', dict(optimize=True)),
      Setting('WebP', 'lossless', 'WEBP', dict(lossless=True, quality=100, method=6)),
      Setting('JPEG 2000', 'lossless', 'JPEG2000', dict(irreversible=False, mct=1, no_jp2=True)),
      Setting('JPEG XL', 'lossless, effort 9', 'JXL', dict(lossless=True, effort=9))]


def _jpeg():
  """The standard's tables, which serve similarity; and flat ones, which serve PSNR."""
  for sampling, chroma in JPEG_CHROMA.items():
    options = dict(subsampling=sampling, optimize=True)
    for quality in JPEG_QUALITIES:
      yield Setting('JPEG', f'quality {quality}, {sampling}', 'JPEG', dict(
          quality=quality, progressive=quality > JPEG_SEQUENTIAL, **options))
    for step in JPEG_STEPS:
      yield Setting('JPEG', f'flat tables of {step}, {sampling}', 'JPEG', dict(
          qtables=[[step] * 64, [round(step * chroma)] * 64], progressive=True, **options))


def _jpeg_2000():
  """As many bits for each image, or for each the same PSNR, which serves that of all images."""
  options = dict(irreversible=True, mct=1, no_jp2=True)
  for ratio in JPEG_2000_RATIOS:
    yield Setting('JPEG 2000', f'ratio {ratio:.4g}', 'JPEG2000', dict(
        quality_mode='rates', quality_layers=[ratio], **options))
  for psnr_db in JPEG_2000_PSNR_DB:
    yield Setting('JPEG 2000', f'{psnr_db} dB', 'JPEG2000', dict(
        quality_mode='dB', quality_layers=[psnr_db], **options))


def _webp():
  for quality in WEBP_QUALITIES:
    yield Setting('WebP', f'quality {quality}', 'WEBP', dict(quality=quality, method=6))


def _jpeg_xl():
  for quality in JPEG_XL_QUALITIES:
    yield Setting('JPEG XL', f'quality {quality}', 'JXL', dict(quality=quality, effort=9))


def _avif():
  """Tuned for PSNR, and for similarity; on one thread, as the number of threads changes files."""
  for tune in ('psnr', 'iq'):
    for quality in AVIF_QUALITIES:
      yield Setting('AVIF', f'quality {quality}, 4:4:4, tune {tune}', 'AVIF', dict(
          quality=quality, subsampling='4:4:4', speed=4, max_threads=1, autotiling=False,
          advanced=dict(tune=tune)))


def encode(image, setting):
  """[H, W, C] uint8 -> (size of the file in bytes, [H, W, C] uint8 decoded from it)."""
  data = io.BytesIO()
  grey = image.shape[-1] == 1
  Image.fromarray(image[..., 0] if grey else image).save(data, setting.format, **setting.options)
  decoded = np.asarray(Image.open(data).convert('L' if grey else 'RGB'))
  return len(data.getvalue()), decoded.reshape(image.shape)

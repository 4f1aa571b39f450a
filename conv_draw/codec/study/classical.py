"""JPEG, JPEG 2000, WebP, AVIF, PNG and JPEG XL, as Pillow has them: what ours is compared with.

Each in the settings that serve the measures of the study, PSNR or (MS-)SSIM; what was tried, on
photographs of no test set, and why these are in use: docs/lossy.md, "The other codecs' settings".
"""

import io
from typing import NamedTuple

import numpy as np
import pillow_jxl  # noqa: F401, it adds itself to Pillow
from PIL import Image

QUALITIES = (1, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 70, 80, 88, 94, 98)
JPEG_STEPS = (115, 80, 56, 40, 28, 20, 14, 10, 7, 5, 3)  # of flat tables
# Flat tables' steps of chroma, relative to luma's: a halved chroma sample is worth more.
JPEG_CHROMA = {'4:2:0': 0.7, '4:4:4': 1.0}
JPEG_2000_RATIOS = (400, 160, 80, 160 / 3, 40, 20, 10, 5, 3)
JPEG_2000_PSNR_DB = (22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 46)
AVIF_QUALITIES = (2, 10, 20, 30, 40, 50, 60, 72, 84, 94)


class Setting(NamedTuple):
  """One way to store an image."""

  codec: str
  name: str  # the kind, and last the number that goes from bad to good
  format: str  # Pillow's
  options: tuple  # of dicts; where there are several, their smallest file counts


def lossy():
  """Every `Setting` of the lossy codecs, each kind of them from bad to good."""
  return [*_jpeg(), *_jpeg_2000(), *_webp(), *_jpeg_xl(), *_avif()]


def lossless():
  """The `Setting`s that give the image back."""
  return [
      Setting('PNG', 'optimised', 'PNG', (dict(optimize=True),)),
      Setting('WebP', 'lossless', 'WEBP', (dict(lossless=True, quality=100, method=6),)),
      Setting('JPEG 2000', 'lossless', 'JPEG2000', (
          dict(irreversible=False, mct=1, no_jp2=True),)),
      Setting('JPEG XL', 'lossless, effort 9', 'JXL', (dict(lossless=True, effort=9),))]


def _jpeg():
  """The standard's tables, which serve similarity; and flat ones, which serve PSNR."""
  def setting(name, sampling, **options):
    # The same pixels; in small files the scans of progressive ones cost more than they save.
    return Setting('JPEG', f'{sampling}, {name}', 'JPEG', tuple(
        dict(options, subsampling=sampling, optimize=True, progressive=progressive)
        for progressive in (False, True)))

  for sampling, chroma in JPEG_CHROMA.items():
    for quality in QUALITIES:
      yield setting(f'quality {quality}', sampling, quality=quality)
    for step in JPEG_STEPS:
      yield setting(f'flat tables, step {step}', sampling,
                    qtables=[[step] * 64, [round(step * chroma)] * 64])


def _jpeg_2000():
  """As many bits for each image, or for each the same PSNR, which serves that of all images."""
  options = dict(irreversible=True, mct=1, no_jp2=True)
  for ratio in JPEG_2000_RATIOS:
    yield Setting('JPEG 2000', f'ratio {ratio:.4g}', 'JPEG2000', (
        dict(quality_mode='rates', quality_layers=[ratio], **options),))
  for psnr_db in JPEG_2000_PSNR_DB:
    yield Setting('JPEG 2000', f'PSNR {psnr_db}', 'JPEG2000', (
        dict(quality_mode='dB', quality_layers=[psnr_db], **options),))


def _webp():
  for quality in QUALITIES:
    yield Setting('WebP', f'quality {quality}', 'WEBP', (dict(quality=quality, method=6),))


def _jpeg_xl():
  for effort, qualities in ((7, QUALITIES), (9, QUALITIES[::2])):  # 9 takes five times as long
    for quality in qualities:
      yield Setting('JPEG XL', f'effort {effort}, quality {quality}', 'JXL', (
          dict(quality=quality, effort=effort),))


def _avif():
  """Tuned for PSNR, and for similarity; on one thread, as the number of threads changes files."""
  for tune in ('psnr', 'iq'):
    for quality in AVIF_QUALITIES:
      yield Setting('AVIF', f'4:4:4, tune {tune}, quality {quality}', 'AVIF', (dict(
          quality=quality, subsampling='4:4:4', speed=4, max_threads=1, autotiling=False,
          advanced=dict(tune=tune)),))


def encode(image, setting):
  """[H, W, C] uint8 -> (size of the file in bytes, [H, W, C] uint8 decoded from it)."""
  grey = image.shape[-1] == 1
  picture, files = Image.fromarray(image[..., 0] if grey else image), []
  for options in setting.options:
    data = io.BytesIO()
    picture.save(data, setting.format, **options)
    files.append(data.getvalue())
  file = min(files, key=len)
  decoded = np.asarray(Image.open(io.BytesIO(file)).convert('L' if grey else 'RGB'))
  return len(file), decoded.reshape(image.shape)

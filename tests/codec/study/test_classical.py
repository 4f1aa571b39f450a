import numpy as np
import pytest
from sklearn import datasets

from conv_draw import quality
from conv_draw.codec.study import classical

# Bytes and PSNR of `photograph` by Pillow 13.0.0 and pillow-jxl-plugin 1.3.8: a library with other
# defaults, or options that it no longer reads, would weaken what ours is compared with.
RECORDED = {
    ('PNG', 'optimised'): (56404, None),
    ('WebP', 'lossless'): (50218, None),
    ('JPEG 2000', 'lossless'): (52529, None),
    ('JPEG XL', 'lossless, effort 9'): (48798, None),
    ('JPEG', '4:2:0, quality 50'): (4662, 27.23),
    ('JPEG', '4:2:0, flat tables, step 20'): (7057, 30.28),
    ('JPEG', '4:4:4, quality 50'): (6202, 28.75),
    ('JPEG', '4:4:4, flat tables, step 20'): (9191, 31.75),
    ('JPEG 2000', 'ratio 20'): (4153, 28.76),
    ('JPEG 2000', 'PSNR 34'): (10217, 34.18),
    ('WebP', 'quality 50'): (4026, 28.59),
    ('JPEG XL', 'effort 7, quality 50'): (3291, 26.28),
    ('JPEG XL', 'effort 9, quality 50'): (2984, 26.14),
    ('AVIF', '4:4:4, tune psnr, quality 50'): (5403, 32.54),
    ('AVIF', '4:4:4, tune iq, quality 50'): (4019, 30.11)}


@pytest.fixture(scope='module')
def photograph():
  return datasets.load_sample_image('flower.jpg')[100:244, 200:392]


@pytest.mark.parametrize('codec, name', RECORDED)
def test_each_is_as_good_as_when_it_was_recorded(photograph, codec, name):
  setting, = (s for s in [*classical.lossless(), *classical.lossy()] if s[:2] == (codec, name))
  size, decoded = classical.encode(photograph, setting)
  recorded_size, recorded_psnr_db = RECORDED[codec, name]
  assert size == pytest.approx(recorded_size, rel=0.02)
  if recorded_psnr_db is None:
    np.testing.assert_array_equal(decoded, photograph)
  else:
    assert quality.psnr_db(photograph, decoded) == pytest.approx(recorded_psnr_db, abs=0.1)


def test_the_smaller_of_sequential_and_progressive_jpeg_counts(photograph):
  found = {s.name: s for s in classical.lossy() if s.codec == 'JPEG'}
  for name, smaller in (('4:2:0, quality 5', False), ('4:4:4, quality 98', True)):
    sizes = {options['progressive']: classical.encode(
        photograph, found[name]._replace(options=(options,)))[0] for options in found[name].options}
    assert sizes[smaller] < sizes[not smaller]
    assert classical.encode(photograph, found[name])[0] == sizes[smaller]


@pytest.mark.parametrize('channels', [1, 3])
def test_settings_do_what_they_say(channels):
  rows, columns = np.mgrid[:48, :64]
  image = (128 + 60 * np.sin(rows / 7) + 50 * np.cos(columns / 9)).astype(np.uint8)
  image = np.stack([image, 255 - image, image // 2], -1)[..., :channels]
  for setting in classical.lossless():
    size, decoded = classical.encode(image, setting)
    np.testing.assert_array_equal(decoded, image)
    assert 50 < size < image.size
  by_kind = {}
  for setting in classical.lossy():
    size, decoded = classical.encode(image, setting)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    kind = setting.codec, setting.name.rpartition(' ')[0]
    by_kind.setdefault(kind, []).append((size, quality.psnr_db(image, decoded)))
  recorded = [(codec, name.rpartition(' ')[0]) for codec, name in RECORDED]
  assert list(by_kind) == recorded[4:]
  for found in by_kind.values():  # from bad to good
    assert found[0][0] < found[-1][0] and found[0][1] < found[-1][1] - 5

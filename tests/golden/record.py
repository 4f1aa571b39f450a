"""Writes golden values. No test runs this.

  python -m tests.golden.record published
  python -m tests.golden.record values [NAME ...]

`published` is what never changes: coded files (files/, cut/ and files.json, which says what wrote
each and which picture it decodes to), and the packaged models (models.json). What has been recorded
is left as it is: a new path of the codec, a new model adds rows and files.

`values` are those of `measure` (values.json), of the experiments and models named or of all. They
are recorded again only with a reason in the commit.
"""

import hashlib
import io
import json
import os
import sys
from typing import NamedTuple
from unittest import mock

import numpy as np
from PIL import Image
from sklearn import datasets

from conv_draw.codec import parameter_tuning
from conv_draw.codec.coder import Coder
from conv_draw.codec.format import container
from conv_draw.errors import UserError
from conv_draw.workdir import published
from tests.golden import measure

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = '0.1.0'  # of this program
MOST, SAMPLED = 24, 8  # values of an array that are stored whole, and of larger ones


class Row(NamedTuple):
  """One golden file."""

  name: str
  model: str
  picture: str  # of `PICTURES`
  how: dict  # arguments of `Coder.encode`
  keep: float = 1.0  # this share of the file's bytes is kept; cut/ holds those that are less
  rank: int | None = None  # of low-rank changes, which only larger pictures have by themselves


# Name -> (sample image of scikit-learn, rows, columns, grey). To the noisy one, noise is added: it
# is so unlike photographs that it pays, small as it is, for the changes of the model that --effort
# stores: lossless_effort_1 and 2 are of a version that changed biases alone.
PICTURES = {
    'rgb': ('china.jpg', slice(120, 168), slice(300, 364), False),
    'grey': ('china.jpg', slice(120, 168), slice(300, 364), True),
    'rgb_odd': ('flower.jpg', slice(150, 201), slice(250, 323), False),
    'rgb_1x1': ('china.jpg', slice(120, 121), slice(300, 301), False),
    'grey_1x1': ('china.jpg', slice(120, 121), slice(300, 301), True),
    'rgb_32': ('flower.jpg', slice(150, 182), slice(250, 282), False),
    'grey_32': ('flower.jpg', slice(150, 182), slice(250, 282), True),
    'rgb_noisy': ('china.jpg', slice(100, 180), slice(280, 392), False),
    'rgb_128': ('flower.jpg', slice(100, 228), slice(220, 348), False),
}

ROWS = (
    Row('lossless_rgb', 'photos_lossless', 'rgb', dict(lossless=True)),
    Row('lossless_grey', 'photos_lossless', 'grey', dict(lossless=True)),
    Row('lossless_rgb_1x1', 'photos_lossless', 'rgb_1x1', dict(lossless=True)),
    Row('lossless_grey_1x1', 'photos_lossless', 'grey_1x1', dict(lossless=True)),
    Row('lossless_tiles', 'photos_lossless', 'rgb_odd', dict(lossless=True, tile_side=40)),
    Row('lossless_effort_1', 'photos_lossless', 'rgb_noisy', dict(lossless=True, effort=1)),
    Row('lossless_effort_2', 'photos_lossless', 'rgb_noisy', dict(lossless=True, effort=2)),
    Row('lossless_gains', 'photos_lossless', 'rgb_noisy', dict(lossless=True, effort=1)),
    Row('lossless_low_rank', 'photos_lossless', 'rgb_noisy', dict(lossless=True, effort=1), rank=2),
    Row('lossy_rgb', 'photos_lossy', 'rgb', {}),
    Row('lossy_grey', 'photos_lossy', 'grey', {}),
    Row('lossy_rgb_1x1', 'photos_lossy', 'rgb_1x1', {}),
    Row('lossy_grey_1x1', 'photos_lossy', 'grey_1x1', {}),
    Row('lossy_tiles', 'photos_lossy', 'rgb_odd', dict(tile_side=40)),
    Row('lossy_groups_0', 'photos_lossy', 'rgb', dict(groups=0)),
    Row('lossy_groups_1', 'photos_lossy', 'rgb', dict(groups=1)),
    Row('lossy_groups_2', 'photos_lossy', 'rgb', dict(groups=2)),
    Row('lossy_groups_9', 'photos_lossy', 'rgb', dict(groups=9)),
    Row('lossy_contrast', 'photos_lossy', 'rgb', dict(groups=9, qp_offset=40)),
    Row('lossy_more_contrast', 'photos_lossy', 'rgb', dict(qp_offset=-8)),
    Row('lossy_bits_per_dim', 'photos_lossy', 'rgb', dict(bits_per_dim=0.5)),
    Row('lossy_psnr', 'photos_lossy', 'rgb', dict(psnr=30.0)),
    Row('lossy_effort_1', 'photos_lossy', 'rgb', dict(bits_per_dim=0.5, effort=1)),
    Row('lossy_effort_2', 'photos_lossy', 'rgb', dict(bits_per_dim=0.5, effort=2)),
    Row('lossy_cut', 'photos_lossy', 'rgb', {}, 0.6),
    Row('codec_rgb', 'cifar10_codec', 'rgb_32', {}),
    Row('codec_grey', 'cifar10_codec', 'grey_32', {}),
    Row('codec_groups_2', 'cifar10_codec', 'rgb_32', dict(groups=2)),
    Row('codec_lossless_rgb', 'cifar10_codec', 'rgb_32', dict(lossless=True)),
    Row('codec_lossless_grey', 'cifar10_codec', 'grey_32', dict(lossless=True)),
    Row('codec_lossless_1x1', 'cifar10_codec', 'rgb_1x1', dict(lossless=True)),
    Row('codec_lossless_tiles', 'cifar10_codec', 'rgb_odd', dict(lossless=True, tile_side=40)),
    Row('codec_lossless_segments', 'cifar10_codec', 'rgb_128', dict(lossless=True)),
    Row('codec_lossless_cut', 'cifar10_codec', 'rgb_128', dict(lossless=True), 0.2),
    Row('cifar10_lossy_rgb', 'cifar10_lossy', 'rgb_32', {}),
    Row('cifar10_lossy_grey', 'cifar10_lossy', 'grey_32', {}),
    Row('cifar10_lossy_bits_per_dim', 'cifar10_lossy', 'rgb_32', dict(bits_per_dim=0.5)),
    Row('cifar10_lossless_rgb', 'cifar10_lossless', 'rgb_32', dict(lossless=True)),
    Row('cifar10_lossless_grey', 'cifar10_lossless', 'grey_32', dict(lossless=True)),
)


def picture(name):
  """uint8 [H, W, C]: one of `PICTURES`."""
  source, rows, columns, grey = PICTURES[name]
  image = datasets.load_sample_image(source)[rows, columns]
  if 'noisy' in name:
    noise = np.random.default_rng(0).integers(-40, 41, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
  return image.mean(-1, keepdims=True).round().astype(np.uint8) if grey else image


def png(pixels):
  """The bytes of a PNG file of uint8 [H, W, C]."""
  data = io.BytesIO()
  Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
      data, 'PNG', optimize=True)
  return data.getvalue()


def write(path, data):
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, 'xb') as f:
    f.write(data)


def stored(name):
  """What a JSON file beside this one holds; {} if there is none yet."""
  path = os.path.join(HERE, name)
  if not os.path.exists(path):
    return {}
  with open(path) as f:
    return json.load(f)


def store(name, values):
  with open(os.path.join(HERE, name), 'w') as f:
    f.write(json.dumps(values, indent=1) + '\n')


def record_files():
  manifest, coders = stored('files.json'), {}
  for row in ROWS:
    if row.name in manifest:
      continue
    coder = coders.setdefault(row.model, Coder.load(published.path(row.model)))
    image = picture(row.picture)
    rank = parameter_tuning.rank_for
    if row.rank is not None:
      rank = lambda size, rank=row.rank: rank
    with mock.patch.object(parameter_tuning, 'rank_for', rank):
      coded = coder.encode(image, **row.how)
    data = coded.data[: int(row.keep * len(coded.data))]
    decoded = coder.decode(data, partial=row.keep < 1)[0]
    lossless = np.array_equal(decoded, image)
    shown = f'pictures/{row.picture if lossless else row.name}.png'
    if not os.path.exists(os.path.join(HERE, shown)):
      write(os.path.join(HERE, shown), png(decoded))
    folder = 'files' if row.keep == 1 else 'cut'
    write(os.path.join(HERE, folder, row.name + '.cdraw'), data)
    header, _ = container.read(data, partial=row.keep < 1)
    manifest[row.name] = dict(
        model=row.model, how=row.how, decodes_to=shown, lossless=lossless, version=VERSION,
        jax='.'.join(map(str, header.jax)))
    print(row.name, len(data), 'bytes', 'lossless' if lossless else '', flush=True)
    store('files.json', manifest)


def digest(array):
  """16 hexadecimal digits of an array's float32 values."""
  return hashlib.blake2b(np.asarray(array).astype('<f4').tobytes(), digest_size=8).hexdigest()


def record_models():
  manifest = stored('models.json')
  for name in published.names():
    if name in manifest:
      continue
    with np.load(os.path.join(published.path(name), published.FILE)) as arrays:
      rows = {key: [list(value.shape), digest(value)] for key, value in sorted(arrays.items())}
    try:
      fingerprint = Coder.load(published.path(name)).fingerprint.hex()
    except UserError:  # it codes nothing
      fingerprint = None
    manifest[name] = dict(fingerprint=fingerprint, arrays=rows)
  store('models.json', manifest)


def record_values(names):
  """The parts of `measure.all_of` that `summary` keeps."""
  values = stored('values.json')
  found = summary(measure.all_of(names))
  replaced = {key.partition(':')[0] for key in found}
  kept = {key: value for key, value in values.items() if key.partition(':')[0] not in replaced}
  store('values.json', dict(sorted((kept | found).items())))


def summary(found):
  """{name: list of a few numbers} of arrays: whole where small, else norm and some values."""
  numbers = {}
  for name, value in found.items():
    if 'parameter ' in name or ': file' in name:
      continue
    flat = np.asarray(value, np.float64).ravel()
    if 'gradient ' in name or flat.size > MOST:
      sample = [] if 'gradient ' in name else flat[:: max(1, flat.size // SAMPLED)][:SAMPLED]
      flat = np.array([np.sqrt((flat**2).sum()), *sample])
    numbers[name] = [float(f'{x:.8g}') for x in flat]
  return numbers


if __name__ == '__main__':
  if sys.argv[1] == 'published':
    record_files()
    record_models()
  else:
    assert sys.argv[1] == 'values', sys.argv
    record_values(sys.argv[2:])

"""Downsampled ImageNet for TFDS from its archives, without TensorFlow.

TFDS's link to the data is dead (tensorflow/datasets issue 4662): `tfds build` cannot download it.
This module reads train_32x32.tar and valid_32x32.tar (or 64x64), PNG images of van den Oord et al.,
"Pixel Recurrent Neural Networks", and writes the data set as TFDS does:
downsampled_imagenet/32x32/2.0.0 with the splits train and validation, in array_record files. The
later "ImageNet 32x32" of image-net.org, which comes as .npz files, is another data set.
"""

import io
import os
import sys
import tarfile
import tempfile

from conv_draw.data import decoding
from conv_draw.errors import UserError, reason
from conv_draw.machine import files

VERSION = '2.0.0'
DATA_SET = 'downsampled_imagenet'
ARCHIVES = {'train': 'train', 'validation': 'valid'}  # TFDS's split -> name of its archive
PUBLISHED = {'train': 1281149, 'validation': 49999}  # images
IMAGES_PER_SHARD = 50000  # 150 MB at 32x32, 500 MB at 64x64


def prepare(archives, size, data_dir):
  """Writes the whole data set, or nothing.

  Args:
    archives: directory with train_{size}x{size}.tar and valid_{size}x{size}.tar.
    size: pixels, height and width.
    data_dir: TFDS's data directory.

  Returns:
    {split: number of images}.

  Raises:
    UserError: an archive is missing, damaged or another than its name says; the data set exists;
      or data_dir cannot be written to.
  """
  final = os.path.join(data_dir, DATA_SET, f'{size}x{size}', VERSION)
  if os.path.exists(final):
    raise UserError(f'{final} exists already: use it, or remove it first')
  paths = {split: os.path.join(archives, f'{name}_{size}x{size}.tar')
           for split, name in ARCHIVES.items()}
  for path in paths.values():
    if not os.path.isfile(path):
      raise UserError(f'no archive {path}: set --archives to the directory that holds '
                      f'{" and ".join(map(os.path.basename, paths.values()))}')
  try:
    os.makedirs(data_dir, exist_ok=True)
    # In data_dir, so that the last step is a rename. TFDS takes name and version from the path,
    # hence the subdirectories.
    with files.scratch(tempfile.mkdtemp(prefix='incomplete.', dir=data_dir)) as scratch:
      directory = os.path.join(scratch, DATA_SET, f'{size}x{size}', VERSION)
      os.makedirs(directory)
      counts = _write(paths, size, directory)
      os.makedirs(os.path.dirname(final), exist_ok=True)
      os.rename(directory, final)
  except (OSError, RuntimeError) as error:  # array_record raises the latter for a full disk
    raise UserError(f'cannot write {final} ({reason(error)}): set --data_dir to a directory with '
                    'enough space that you may write to') from error
  return counts


def _write(paths, size, directory):
  """Writes the splits of the archives `paths`, {split: path}, and TFDS's metadata.

  Returns:
    {split: number of images}.
  """
  import tensorflow_datasets as tfds
  features = tfds.features.FeaturesDict({
      'image': tfds.features.Image(shape=(size, size, 3), encoding_format='png')})
  split_infos = []
  for split, path in paths.items():
    shard_lengths, num_bytes = _write_split(_images(path, size), features, directory, split)
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=DATA_SET, split=split, filetype_suffix='array_record')
    split_infos.append(tfds.core.SplitInfo(
        name=split, shard_lengths=shard_lengths, num_bytes=num_bytes,
        filename_template=template))
  tfds.folder_dataset.write_metadata(
      data_dir=directory, features=features, split_infos=split_infos, version=VERSION,
      check_data=False,  # which would count the records, with TensorFlow
      description=f'Downsampled ImageNet, {size}x{size}, from '
      + ' and '.join(map(os.path.basename, paths.values())))
  return {info.name: info.num_examples for info in split_infos}


def _write_split(images, features, directory, split):
  """Writes one split from an iterator of PNG files.

  Returns:
    list of the number of images in each shard, and the number of bytes in all records.
  """
  from array_record.python import array_record_module
  shard_lengths, num_bytes, writer = [], 0, None
  try:
    for png in images:
      if writer is None or shard_lengths[-1] == IMAGES_PER_SHARD:
        if writer is not None:
          writer.close()
        # Groups of one record, as TFDS writes them: reading an image decompresses no other.
        writer = array_record_module.ArrayRecordWriter(
            os.path.join(directory, f'{split}-{len(shard_lengths)}'), 'group_size:1')
        shard_lengths.append(0)
      record = features.serialize_example({'image': png})
      writer.write(record)
      shard_lengths[-1] += 1
      num_bytes += len(record)
      if sum(shard_lengths) % 100000 == 0:
        print(f'{split}: {sum(shard_lengths):,} images', file=sys.stderr)
  finally:
    if writer is not None:
      writer.close()
  for index in range(len(shard_lengths)):  # the number of shards, now known, is in the name
    os.rename(os.path.join(directory, f'{split}-{index}'), os.path.join(
        directory, f'{DATA_SET}-{split}.array_record-{index:05d}-of-{len(shard_lengths):05d}'))
  return shard_lengths, num_bytes


def _images(path, size):
  """Yields the RGB PNG files of size x size in a tar archive, as bytes, in its order.

  Raises:
    UserError: the archive is damaged, cut or without PNG files, or an image is of another kind.
  """
  count = 0
  try:
    with tarfile.open(path, 'r|*', tarinfo=_Member) as archive:
      while (member := archive.next()) is not None:
        archive.members = []  # tarfile would keep all of them, which takes gigabytes
        name = os.path.basename(member.name)
        if member.isfile() and name.lower().endswith('.png') and not name.startswith('.'):
          yield _checked(archive.extractfile(member).read(), size, f'{path}: {member.name}')
          count += 1
      _check_end(archive.fileobj)
  except (tarfile.TarError, EOFError, OSError) as error:
    raise UserError(
        f'{path} is not a readable tar archive ({reason(error)}): get it again') from error
  if not count:
    raise UserError(f'{path} holds no PNG images: get the archive of that name again')


class _Member(tarfile.TarInfo):
  """A member's header, which must be readable or a block of zeros.

  tarfile takes any unreadable header after the first for the end of the archive.
  """

  @classmethod
  def frombuf(cls, buf, encoding, errors):
    try:
      return super().frombuf(buf, encoding, errors)
    except tarfile.EOFHeaderError:  # a block of zeros
      raise
    except tarfile.HeaderError as error:
      raise tarfile.ReadError(f'it is cut or damaged between two files: {error}') from error


def _check_end(stream):
  """Raises `tarfile.ReadError` unless the second block of zeros, the end of an archive, follows.

  Args:
    stream: the file that a `TarFile` reads, after the first block of zeros.
  """
  rest = stream.read(tarfile.BLOCKSIZE)
  if len(rest) < tarfile.BLOCKSIZE:
    raise tarfile.ReadError('it is cut at its end')
  while rest:
    if rest.strip(b'\0'):
      raise tarfile.ReadError('data follow its end')
    rest = stream.read(tarfile.RECORDSIZE)


def _checked(png, size, name):
  """The bytes of a PNG file, which is converted to RGB if it is grey or has a palette.

  Raises:
    UserError: it is damaged, of another size, transparent or 16-bit.
  """
  from PIL import Image
  try:
    with Image.open(io.BytesIO(png), formats=['PNG']) as image:
      deep = any(';16' in str(tile[3]) for tile in image.tile)
      image.load()
      decoding.check_complete(image, io.BytesIO(png))
      kind = (image.size, image.mode, deep or image.has_transparency_data)
      if kind == ((size, size), 'RGB', False):
        return png
      if kind[0] == (size, size) and image.mode in ('1', 'L', 'P') and not kind[2]:
        out = io.BytesIO()
        image.convert('RGB').save(out, 'PNG')
        return out.getvalue()
  except (OSError, ValueError, SyntaxError) as error:
    raise UserError(
        f'{name} cannot be read as a PNG image ({reason(error)}): get the archive again') from error
  raise UserError(f'{name} is {kind[0][0]}x{kind[0][1]} {"16-bit or transparent " * kind[2]}'
                  f'{kind[1]}, not {size}x{size} RGB: check --size and the archive')

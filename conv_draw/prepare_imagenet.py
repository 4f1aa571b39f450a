"""Prepares downsampled ImageNet for TFDS from its archives, without TensorFlow.

  python -m conv_draw.prepare_imagenet --archives=DIR --size=32 --data_dir=DIR
"""

from absl import flags

from conv_draw import command_line
from conv_draw.data import prepare_imagenet

PROGRAM = 'conv_draw.prepare_imagenet'
ARCHIVES = flags.DEFINE(
    command_line.Path(), 'archives', None, 'The directory that holds the two .tar files.')
SIZE = flags.DEFINE_enum('size', None, ('32', '64'), 'Pixels, height and width.')
DATA_DIR = flags.DEFINE(
    command_line.Path(), 'data_dir', None, "TFDS's data directory, to write to.")


def main(argv):
  with command_line.errors_in_one_line(PROGRAM, DATA_DIR.value or 'the paths'):
    command_line.check_given(argv, ARCHIVES, SIZE, DATA_DIR)
    data_dir = DATA_DIR.value
    counts = prepare_imagenet.prepare(ARCHIVES.value, int(SIZE.value), data_dir)
    for split, count in counts.items():
      published = prepare_imagenet.PUBLISHED[split]
      note = '' if count == published else f' (the published set has {published:,})'
      print(f'{split}: {count:,} images{note}')
    print(f'train on it with --config.data.name=imagenet{SIZE.value} '
          f'--config.data.data_dir={data_dir}')


if __name__ == '__main__':
  command_line.start(PROGRAM, main)

"""What a file holds and what each part costs, in lines for people."""

from conv_draw.codec.format import archive as archive_lib
from conv_draw.codec.format import container, framing, reading


def describe_file(path, partial=False):
  """`describe_image` or `describe_archive` of the file there.

  Raises:
    UserError: it is neither, or `partial` is not set and it is an image that ends inside a segment.
  """
  data = reading.read_file(path)
  if data.startswith(framing.ARCHIVE_MAGIC):
    return describe_archive(*archive_lib.read(data, path))
  return describe_image(*container.read(data, partial, path))


def fields(path, partial=False):
  """The same as `describe_file` for programs: a dict of numbers, strings and lists.

  Raises:
    UserError: as `describe_file`.
  """
  data = reading.read_file(path)
  if data.startswith(framing.ARCHIVE_MAGIC):
    header, names, _ = archive_lib.read(data, path)
    return {'mode': 'archive', 'file': path, **_image(header), 'images': header.count,
            'initial_bits': header.initial_bits, 'bytes': len(data), 'names': names}
  header, segments = container.read(data, partial, path)
  _, *parts = container.sizes(header, segments)
  return {
      'mode': 'lossless' if header.mode == container.LOSSLESS else 'lossy', 'file': path,
      **_image(header), 'groups': header.groups, 'tile_side': header.tile_side,
      'complete': len(segments) == container.count(header), 'bytes': len(data),
      'segments': [{'name': label, 'payload_bytes': size, 'bytes_so_far': total}
                   for label, size, total in parts]}


def _image(header):
  return {
      'width': header.width, 'height': header.height, 'channels': header.channels,
      'grey_levels': header.grey_levels, 'model': header.name,
      'fingerprint': header.fingerprint.hex(), 'seed': header.seed,
      'jax': list(header.jax) if header.jax else None}


def describe_image(header, segments):
  """Of `container.Header` and `container.Segment`s, all or the first few."""
  latents = [segment.index for segment in segments if segment.kind == container.LATENTS]
  complete = len(segments) == container.count(header)
  state = 'complete' if complete else 'the rest was cut off or never written'
  pixels = ', and the pixels' if len(segments) > len(latents) else ''
  side = header.tile_side
  tiles = f'tiles of {side} x {side} pixels' if side else 'coded whole'
  dims = header.width * header.height * header.channels
  (label, _, total), *parts = container.sizes(header, segments)
  lines = [
      f'mode         {"lossless" if header.mode == container.LOSSLESS else "lossy"}',
      f'image        {_size(header)}, {tiles}',
      *_model(header),
      f'groups       {max(latents, default=0)} of {header.groups}{pixels} ({state})', '',
      f'{"segment":20}{"payload bytes":>14}{"file so far":>14}{"bits/dim":>10}',
      f'{label:20}{"":14}{total:14,}{8 * total / dims:10.4f}']
  for label, size, total in parts:
    lines.append(f'{label:20}{size:14,}{total:14,}{8 * total / dims:10.4f}')
  return '\n'.join([*lines, '', _total(total, sum(size for _, size, _ in parts), dims)])


def describe_archive(header, names, payload, max_names=10):
  """Of `archive.Header` and what is behind it; at most `max_names` of the names."""
  dims = header.count * header.width * header.height * header.channels
  more = len(names) - max_names
  return '\n'.join([
      'mode         lossless, bits back',
      f'images       {header.count:,} of {_size(header)}',
      *_model(header),
      f'initial bits {header.initial_bits:,}', '',
      *(f'  {name}' for name in names[:max_names]),
      *([f'  ... and {more:,} more'] if more > 0 else []), '',
      _total(archive_lib.size(header, names, payload), len(payload), dims)])


def _size(header):
  """An image's size in words."""
  channels = 'channel' if header.channels == 1 else 'channels'
  return (
      f'{header.width} x {header.height} pixels, {header.channels} {channels}, '
      f'{header.grey_levels} levels')


def _model(header):
  """The lines of a description that say what coded the file."""
  return [
      f'model        {header.name}',
      f'fingerprint  {header.fingerprint.hex()}',
      f'seed         {header.seed}',
      *([f'written by   JAX {".".join(map(str, header.jax))}'] if header.jax else [])]


def _total(total, payloads, dims):
  """The last line of a description: of all bytes and those of the payloads, for `dims` numbers."""
  return (
      f'total        {total:,} bytes, {8 * total / dims:.4f} bits/dim; without the container '
      f'{payloads:,} bytes, {8 * payloads / dims:.4f} bits/dim')

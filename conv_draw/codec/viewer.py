"""A page about one coded file, with a slider over its truncation points."""

import os

import numpy as np

from conv_draw import quality
from conv_draw.codec import output_paths
from conv_draw.codec.format import container, reading
from conv_draw.report import elements, pictures

EXTENSION = '.html'
SIDE = 640  # pixels, of the pictures on the page at most
# Truncation points that are shown: all if they have no more pixels than this, else fewer.
MAX_PIXELS, LEAST_FRAMES = 2**23, 6


def view(path, load, target=None, overwrite=False):
  """Writes the page about the file `path`; returns (a line about it, its fields).

  Args:
    load: `container.Header` -> the `coder.Coder` of its model.
    target: path of the page; None: beside the file, under its name with .html.
    overwrite: whether a page that exists may be replaced.
  Raises:
    UserError: no such file, or one that cannot be decoded, or a page that may not be written.
  """
  path = os.fspath(path)
  target = os.fspath(target or os.path.splitext(path)[0] + EXTENSION)
  output_paths.check([path], [target], overwrite)
  data = reading.read_file(path)
  header, segments = container.read(data, source=path)
  coder = load(header)
  page = elements.document(os.path.basename(path), ''.join(_body(path, coder, header, segments)))
  written = page.encode()
  output_paths.write(target, written, None, overwrite)
  return f'{target}: {len(segments)} segments, {len(written):,} bytes', {
      'file': target, 'segments': len(segments), 'bytes': len(written)}


def _body(path, coder, header, segments):
  (_, _, first), *parts = container.sizes(header, segments)
  sizes = [first, *(total for _, _, total in parts)]
  names = ['nothing but the header', *(label for label, _, _ in parts)]
  dims = header.width * header.height * header.channels
  shown = _shown(header, len(segments))
  images = coder.decode_prefixes(header, segments, shown)
  whole = images[-1]
  psnrs = [quality.psnr_db(whole, image, header.grey_levels - 1) for image in images]
  frames = []
  some = shown[-len(images) :]  # without latents there is only all of it
  for count, image, psnr in zip(some, images, psnrs, strict=True):
    size = sizes[count]
    near = '' if count == len(segments) else f', {psnr:.2f} dB from the whole file'
    frames.append((
        pictures.webp(pictures.to_bytes(image, header.grey_levels), SIDE),
        f'The picture of the first {count} segments',
        f'{count} of {len(segments)} segments, up to {names[count]}: {size:,} bytes, '
        f'{8 * size / dims:.4f} bits/dim{near}'))
  yield elements.heading(os.path.basename(path), 1)
  yield elements.paragraph(
      f'{header.width} x {header.height} pixels, {"grey" if header.channels == 1 else "colour"}; '
      f'{"lossless" if header.mode == container.LOSSLESS else "lossy"}, by the model '
      f'{header.name}; {sizes[-1]:,} bytes.')
  scale = min(1, SIDE / max(header.width, header.height))
  smaller = '' if scale == 1 else f' They are shown at {100 * scale:.0f} % of their size.'
  yield elements.heading('The picture, as it comes')
  yield elements.paragraph(
      'A file that ends behind any segment is a coarser picture.' + smaller)
  yield elements.slider(
      'Segments', {'': frames}, width=max(1, round(header.width * scale)), smooth=True)
  yield elements.heading('What the segments take')
  if len(images) > 1:
    yield elements.curves('bits/dim', 'dB from the whole file', [(
        'the file so far', [8 * sizes[count] / dims for count in some[:-1]], psnrs[:-1], False)])
  yield elements.table(('segment', 'bytes', 'file so far', 'bits/dim'), [
      (label, f'{size:,}', f'{total:,}', f'{8 * total / dims:.4f}')
      for label, size, total in parts])


def _shown(header, count):
  """The truncation points of `count` segments that the page shows, ascending."""
  frames = max(LEAST_FRAMES, MAX_PIXELS // (header.width * header.height))
  return sorted({round(number) for number in np.linspace(0, count, min(frames, count + 1))})

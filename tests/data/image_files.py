"""Image files for tests: noise of 24x16 pixels, PNG files chunk by chunk."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

MAGIC = b'\x89PNG\r\n\x1a\n'
WIDTH, HEIGHT = 24, 16
RGB = np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def saved(format_, pixels=RGB, mode=None, **options):
  """A file that Pillow writes, as bytes."""
  out = io.BytesIO()
  Image.fromarray(pixels).convert(mode).save(out, format_, **options)
  return out.getvalue()


def chunk(kind, data, checksum=None):
  found = zlib.crc32(kind + data) if checksum is None else checksum
  return struct.pack('>I4s', len(data), kind) + data + struct.pack('>I', found)


def rows(pixels):
  """Unfiltered rows, before compression."""
  return b''.join(b'\0' + row.tobytes() for row in pixels)


def interlaced(pixels):
  """The rows of the first six of Adam7's passes; and those of all seven."""
  passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
            (1, 0, 2, 1)]
  parts = [rows(pixels[top::down, left::right]) for top, left, down, right in passes]
  return b''.join(parts[:6]), b''.join(parts)


def png(data, before=(), behind=(), colour=2, bits=8, interlace=0, size=(WIDTH, HEIGHT)):
  """A PNG file with compressed `data`, and chunks before and behind them."""
  header = struct.pack('>IIBBBBB', *size, bits, colour, 0, 0, interlace)
  return b''.join((MAGIC, chunk(b'IHDR', header), *before, chunk(b'IDAT', zlib.compress(data)),
                   *behind, chunk(b'IEND', b'')))

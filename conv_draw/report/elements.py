"""Elements of a self-contained HTML page, which needs no network, server or other file.

uPlot (assets/LICENSE.uplot), 51 kB that are included in each page, draws curves.
"""

import base64
import hashlib
import html
import json
import math
import os

ASSETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'assets')


def document(title, body):
  """The whole page, a string."""
  style, script = (''.join(map(_asset, names)) for names in (
      ('uplot.css', 'page.css'), ('uplot.js', 'page.js')))
  return (
      f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
      '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
      f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n'
      f'<style>{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n'
      f'<script>{script}</script>\n</body>\n</html>\n')


def _asset(name):
  with open(os.path.join(ASSETS, name), encoding='utf-8') as f:
    return f.read()


def heading(text, level=2):
  return f'<h{level}>{html.escape(text)}</h{level}>\n'


def paragraph(text):
  return f'<p>{html.escape(text)}</p>\n'


def picture(png, alt, caption):
  """A still picture.

  Args:
    png: the bytes of its file.
    alt: its description for readers who cannot see it.
  """
  return (
      f'<figure><img src="{_uri(png)}" alt="{html.escape(alt)}">'
      f'<figcaption>{html.escape(caption)}</figcaption></figure>\n')


def slider(label, ways, width=None, smooth=False):
  """A sequence of pictures with a slider, which is initially at the last.

  Args:
    label: of the slider: the quantity along which it moves.
    ways: {name: frames}: sequences of one length, among which radio buttons choose. A frame is (the
      bytes of a PNG or WebP file, alt, caption).
    width: maximum in pixels of the screen; None: the picture's own.
    smooth: whether to interpolate enlarged pixels.
  """
  choice, (first, *_) = '', ways.values()
  # The name of the radio buttons must be unique on the page.
  group = f'way-{_short_hash(label, first[-1][2])}'
  if len(ways) > 1:
    choice = '<fieldset>' + ''.join(
        f'<label><input type="radio" name="{group}" value="{number}"'
        f'{"" if number else " checked"}> {html.escape(name)}</label>'
        for number, name in enumerate(ways)) + '</fieldset>'
  frames = [[{'src': _uri(png), 'alt': alt, 'caption': caption} for png, alt, caption in way]
            for way in ways.values()]
  png, alt, caption = first[-1]
  last = len(first) - 1
  size, style = f' width="{width}"' if width else '', ' class="smooth"' if smooth else ''
  return (
      f'<figure class="slider"><img src="{_uri(png)}" alt="{html.escape(alt)}"{size}{style}>'
      f'{choice}<label>{html.escape(label)} '
      f'<input type="range" min="0" max="{last}" value="{last}" step="1"></label>'
      f'<output aria-live="polite">{html.escape(caption)}</output>{_data(frames)}</figure>\n')


def curves(x, y, series, marks=(), span=None):
  """A chart of curves over one axis.

  Args:
    x, y: labels of the axes.
    series: [(name, xs, ys, whether to draw points instead of lines)].
    marks: [(x, text)] of vertical lines.
    span: (lower, upper) limit of y; None: all values.
  """
  drawn = {
      'x': x, 'y': y, 'range': span, 'marks': [{'x': at, 'text': text} for at, text in marks],
      'series': [{'name': name, 'points': points, 'x': list(xs),
                  'y': [value if math.isfinite(value) else None for value in ys]}
                 for name, xs, ys, points in series]}
  names = ' and '.join(name for name, *_ in series)
  return (f'<div class="curves" role="img" aria-label="{html.escape(f"{y} against {x}: {names}")}">'
          f'{_data(drawn)}</div>\n')


def table(header, rows):
  """A table of texts; an empty header is left out."""
  row = lambda tag, cells: '<tr>' + ''.join(
      f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells) + '</tr>\n'
  head = f'<thead>{row("th", header)}</thead>' if header else ''
  return (f'<div class="scroll"><table>{head}<tbody>{"".join(row("td", r) for r in rows)}</tbody>'
          '</table></div>\n')


def _data(value):
  """A script element of JSON; '<' is escaped, as a text could otherwise end the element."""
  text = json.dumps(value, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')
  return f'<script type="application/json">{text}</script>'


def _uri(data):
  kind = 'webp' if data.startswith(b'RIFF') else 'png'
  return f'data:image/{kind};base64,' + base64.b64encode(data).decode()


def _short_hash(*texts):
  return hashlib.blake2b('\0'.join(texts).encode(), digest_size=4).hexdigest()

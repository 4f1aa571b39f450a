"""Self-contained pages, in a browser if there is one."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from conv_draw.report import elements
from tests import browser as browser_lib

needs_browser = pytest.mark.skipif(not browser_lib.PROGRAM, reason='Chromium is not installed')


def png(value):
  data = io.BytesIO()
  Image.fromarray(np.full((8, 900, 3), value, np.uint8)).save(data, 'PNG')
  return data.getvalue()


def page():
  ways = {way: [(png(10 * t + number), f'{way} {t}', f'{t} of 3 groups, {way}') for t in range(4)]
          for number, way in enumerate(('means', 'samples'))}
  return elements.document('A </title> of <tests>', ''.join((
      elements.heading('Text & <more>', 1),
      elements.slider('Groups', ways),
      elements.picture(png(7), 'a grey one', 'It stays.'),
      elements.curves('step', 'nats', [
          ('train', [0, 1, 2], [3.0, float('nan'), 1.0], False), ('test', [2], [1.5], True)],
          [(1, '</script> revert')]),
      elements.table(('name', 'value'), [('a wide one ' * 30, '<1>')]))))


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  directory = tmp_path_factory.mktemp('browser')
  (directory / 'page.html').write_text(page())
  opened = browser_lib.Browser(directory / 'profile')
  opened.path = directory / 'page.html'
  yield opened
  opened.close()


def test_a_page_needs_no_network():
  """Every address in it is that of what it holds itself."""
  text = page()
  assert set(re.findall(r'(?:src|href)="(\w+):', text)) == {'data'}
  assert 'A &lt;/title&gt; of &lt;tests&gt;' in text and '&lt;1&gt;' in text
  # No text ends what it stands in.
  assert text.count('</script>') == 3 and '\\u003c/script> revert' in text
  data = re.search(r'class="curves".*?json">(.*?)</script>', text)[1]
  assert json.loads(data)['series'][0]['y'] == [3.0, None, 1.0]
  assert len(text) < 2e5


@needs_browser
@pytest.mark.parametrize('width', [375, 1440])
def test_it_is_readable_at_any_width_and_by_keyboard(browser, width):
  browser.errors.clear()
  browser.open(browser.path, width)
  assert browser.value('document.title') == 'A </title> of <tests>'
  assert browser.value('document.documentElement.scrollWidth') <= width
  assert browser.value('document.querySelectorAll(".curves canvas").length') == 1
  assert browser.value('[...document.images].every((i) => i.alt && i.naturalWidth === 900)')
  shown = 'document.querySelector("figure.slider img").src'
  said = 'document.querySelector("output").textContent'
  first = browser.value(shown)
  assert browser.value(said) == '3 of 3 groups, means'
  browser.press('Tab')
  assert browser.value('document.activeElement.type') == 'radio'
  browser.press('ArrowRight')
  assert browser.value(said) == '3 of 3 groups, samples' and browser.value(shown) != first
  browser.press('Tab')
  browser.press('ArrowLeft')
  assert browser.value(said) == '2 of 3 groups, samples'
  browser.press('Home')
  assert browser.value(said) == '0 of 3 groups, samples'
  assert browser.value('document.querySelector("figure.slider img").alt') == 'samples 0'
  assert browser.value('document.activeElement.getAttribute("aria-valuetext")') == (
      '0 of 3 groups, samples')
  assert not browser.errors

"""Headless Chromium, if it is installed, controlled through pipes."""

import contextlib
import json
import os
import shutil
import subprocess

PROGRAM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which(
    'google-chrome')
KEYS = {'Tab': 9, 'End': 35, 'Home': 36, 'ArrowLeft': 37, 'ArrowRight': 39}


class Browser:
  """One page at a time (https://chromedevtools.github.io/devtools-protocol)."""

  def __init__(self, directory):
    read, self._write = os.pipe()
    self._read, write = os.pipe()
    self._process = subprocess.Popen([
        'bash', '-c', f'exec "$0" "$@" 3<&{read} 4>&{write}', PROGRAM, '--headless', '--no-sandbox',
        '--disable-gpu', '--remote-debugging-pipe', f'--user-data-dir={directory}'],
        pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(read)
    os.close(write)
    self._pending, self._number, self._session, self.errors = b'', 0, None, []
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.call(f'{domain}.enable')

  def close(self):
    with contextlib.suppress(OSError):
      os.close(self._write)
    self._process.kill()
    self._process.wait()
    os.close(self._read)

  def call(self, method, **parameters):
    """The result of a method of the protocol."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._write, json.dumps(message).encode() + b'\0')
    while (answer := self._next()).get('id') != self._number:
      self._note(answer)
    assert 'error' not in answer, (method, answer)
    return answer['result']

  def open(self, path, width, height=900):
    """Opens a file in a window of the given size."""
    self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
              deviceScaleFactor=1, mobile=False)
    self.call('Page.navigate', url=f'file://{path}')
    while (event := self._next()).get('method') != 'Page.loadEventFired':
      self._note(event)

  def value(self, expression):
    """The value of a JavaScript expression."""
    found = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
    assert 'exceptionDetails' not in found, found
    return found['result'].get('value')

  def press(self, key):
    for kind in ('rawKeyDown', 'keyUp'):
      self.call('Input.dispatchKeyEvent', type=kind, key=key, code=key,
                windowsVirtualKeyCode=KEYS[key])

  def _next(self):
    while b'\0' not in self._pending:
      more = os.read(self._read, 2**16)
      assert more, 'the browser has exited'
      self._pending += more
    message, _, self._pending = self._pending.partition(b'\0')
    return json.loads(message)

  def _note(self, event):
    method, parameters = event.get('method'), event.get('params', {})
    if method == 'Runtime.exceptionThrown' or (
        method == 'Runtime.consoleAPICalled' and parameters['type'] in ('error', 'warning')) or (
            method == 'Log.entryAdded' and parameters['entry']['level'] == 'error') or (
                method == 'Network.requestWillBeSent'
                and not parameters['request']['url'].startswith(('data:', 'file:', 'about:'))):
      self.errors.append(parameters)

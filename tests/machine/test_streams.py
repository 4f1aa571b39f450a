"""Programs whose standard streams are closed, full, or a pipe that nobody reads."""

import os
import shlex
import subprocess
import sys

import pytest

from conv_draw.errors import UserError
from conv_draw.machine import streams
from tests.program import ROOT

# Prints to both streams, and checks the number of the next opened file.
PROGRAM = '''
import os, sys
from conv_draw import command_line
def main(argv):
  with command_line.errors_in_one_line('it', 'the output'):
    print('said')
    print('noted', file=sys.stderr)
    with open(os.devnull, 'rb') as f:
      command_line.fail('it', 'a  mistake') if f.fileno() < 3 or 'fail' in argv else None
command_line.start('it', main)
'''


def shell(line, *arguments):
  """(status, stdout, stderr) of a program, `$P`, as the shell starts it."""
  program = f'{sys.executable} -c {shlex.quote(PROGRAM)} {" ".join(arguments)}'
  done = subprocess.run(
      ['bash', '-c', line.replace('$P', program)], cwd=ROOT, text=True, capture_output=True,
      timeout=100, env={**os.environ, 'PYTHONUNBUFFERED': ''})
  return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('closed, out, error', [
    ('<&-', 'said\n', 'noted\n'), ('>&-', '', 'noted\n'), ('2>&-', 'said\n', '')])
def test_no_file_takes_the_place_of_a_closed_stream(closed, out, error):
  said = error and error + 'it: a  mistake\n'  # with both blanks, which a name may have
  assert shell(f'$P {closed}', 'fail') == (2, out, said)


@pytest.mark.parametrize('line', ['$P | true', '$P 2>&1 >/dev/null | true'])
@pytest.mark.parametrize('argument', ['', 'fail'])
def test_a_closed_pipe_ends_the_program_silently(line, argument):
  line = f'trap "" TERM; {line.replace("$P", "(sleep 0.3; exec $P)")}; exit ${{PIPESTATUS[0]}}'
  status, _, error = shell(line, argument)
  assert status == 141
  assert error in ('', 'noted\n')


@pytest.mark.parametrize('line, lines', [('$P >/dev/full', 2), ('$P 2>/dev/full', 0)])
def test_a_full_stream_is_reported_once(line, lines):
  status, _, error = shell(line)
  assert status == 2 and len(error.splitlines()) == lines and 'Traceback' not in error
  if lines:
    assert error.endswith('it: [Errno 28] No space left on device: make space\n')


@pytest.mark.parametrize('program, end, status, error', [
    ('launch.py', '| true; exit ${PIPESTATUS[0]}', 141, ''), ('launch.py', '>&-', 0, ''),
    ('-m conv_draw.codec', '>/dev/full', 2, 'make space\n')])
def test_help_on_a_closed_or_full_stream(program, end, status, error):
  done = subprocess.run(
      ['bash', '-c', f'{sys.executable} -W error {program} --help {end}'], cwd=ROOT, text=True,
      capture_output=True, timeout=100)
  assert done.returncode == status
  assert done.stderr.endswith(error) and len(done.stderr.splitlines()) == bool(error)


def test_a_terminal_takes_no_bytes(monkeypatch):
  streams.check_for_bytes('stdout')
  reader, terminal = os.openpty()
  with open(terminal, 'w') as stream:
    for name in ('stdout', 'stdin'):
      monkeypatch.setattr(sys, name, stream)
      with pytest.raises(UserError, match='is a terminal'):
        streams.check_for_bytes(name)
  os.close(reader)


def test_a_closed_stream_takes_no_bytes(monkeypatch):
  monkeypatch.setattr(streams, '_closed', set())
  monkeypatch.setattr(sys, 'stdout', None)
  streams.complete()
  with sys.stdout, pytest.raises(UserError, match='standard output is closed'):
    streams.check_for_bytes('stdout')

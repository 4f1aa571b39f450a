"""The user's own experiment file: a mistake in it is said with file and line."""

import importlib.util
import os
import traceback

from conv_draw.errors import UserError, reason


def call(path, function, *arguments):
  """What `function` of an experiment file returns; None if the file does not define it.

  Raises:
    UserError: there is no such file, or what is wrong with it and in which line. Its __cause__ is
      the error itself.
  """
  if not os.path.isfile(path):
    raise UserError(
        f'{path} does not exist: name an experiment, such as --config=experiments/digits.py')
  try:
    spec = importlib.util.spec_from_file_location('experiment', path)
    if spec is None:
      raise ValueError('it does not end in .py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)(*arguments) if hasattr(module, function) else None
  except Exception as e:  # pylint: disable=broad-except; any that there is
    name = '' if isinstance(e, UserError) else f'{type(e).__name__}: '
    text = e.msg if isinstance(e, SyntaxError) else reason(e)
    raise UserError(f'{path}{_line(e, path)}: {name}{text}') from e


def _line(error, path):
  """', line N': the last line of the file that the error came through, or is about."""
  if isinstance(error, SyntaxError) and error.filename == path:
    return f', line {error.lineno}'
  lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
  return f', line {lines[-1]}' if lines else ''

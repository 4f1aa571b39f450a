"""Loads experiment files; errors in them name the file and line."""

import importlib.util
import os
import traceback
from typing import Any

from conv_draw.errors import UserError, reason


def call(path: str, function: str, *arguments: Any) -> Any:
  """The result of `function` in an experiment file; None if the file does not define it.

  Raises:
    UserError: the file does not exist, or an error in it, with its line.
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
  except Exception as e:  # pylint: disable=broad-except; an experiment can raise any
    name = '' if isinstance(e, UserError) else f'{type(e).__name__}: '
    text = e.msg if isinstance(e, SyntaxError) else reason(e)
    raise UserError(f'{path}{_line(e, path)}: {name}{text}') from e


def _line(error, path):
  """', line N' of the innermost frame in the file, or of the syntax error."""
  if isinstance(error, SyntaxError) and error.filename == path:
    return f', line {error.lineno}'
  lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
  return f', line {lines[-1]}' if lines else ''

"""Errors for users, and words for the errors of libraries and the system."""

import ast
import contextlib
import errno
import os
import re


class UserError(ValueError):
  """An error that the user can correct; the message names the thing and the remedy in one line.

  Every program prints the message on stderr and exits with status 2.
  """


class Preempted(BaseException):
  """The process was told to end and has saved everything: the same command continues.

  A BaseException, as KeyboardInterrupt, so that `except Exception` does not catch it.
  """

  STATUS = 75  # the exit status, EX_TEMPFAIL of sysexits.h: schedulers start the command again


def reason(error: BaseException) -> str:
  """An exception's message in one line; of an OSError, without number and path."""
  text = getattr(error, 'strerror', None) or said(error)
  return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


# Remedies for errors of the operating system.
_REMEDIES = {
    errno.ENOSPC: 'make space', errno.EDQUOT: 'make space, or raise the quota',
    errno.EFBIG: 'raise the limit on the size of files', errno.EACCES: 'mend its permissions',
    errno.EPERM: 'mend its permissions', errno.EROFS: 'choose a place that is not read-only',
    errno.EMFILE: 'allow more open files (ulimit -n)', errno.ENFILE: 'allow more open files',
}


def remedy(error: BaseException, otherwise: str = 'see the message of the system') -> str:
  """The remedy for a system error, also for a library's exception that quotes its text."""
  text = str(error)
  for number, help_ in _REMEDIES.items():
    if getattr(error, 'errno', None) == number or os.strerror(number) in text:
      return help_
  return otherwise


def said(error: BaseException) -> str:
  """An exception's message, in one or several lines, without the additions of libraries.

  Those are quotes, escaped line breaks, locations in their own source and lists of valid names.
  """
  text = str(error)
  with contextlib.suppress(ValueError, SyntaxError):
    literal = ast.literal_eval(text) if text[:1] in ('"', "'") else text
    text = literal if isinstance(literal, str) else text
  text = re.sub(r"\('Non-boolean argument.*\)$", 'give true or false', text)  # absl
  text = re.sub(r'\s*\[source locations=.*', '', text, flags=re.DOTALL).replace('\\n', '\n')
  return re.sub(r' Other fields present: ".*?"$', '', text, flags=re.DOTALL | re.MULTILINE)

"""The one kind of error that a user can mend."""

import ast
import contextlib
import errno
import os
import re


class UserError(ValueError):
  """A mistake outside the program: one line that names the thing and the remedy.

  Every command line prints the message alone on stderr and exits with status 2.
  """


class Preempted(BaseException):
  """The process was told to end, and everything is saved: the same command continues.

  Like KeyboardInterrupt it comes wherever the program is, and `except Exception` must not keep it.
  """

  STATUS = 75  # of the process: EX_TEMPFAIL of sysexits.h, for schedulers to start it again


def reason(error):
  """What an exception says, in one line: of the system's errors without number and path."""
  text = getattr(error, 'strerror', None) or said(error)
  return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


# What helps against errors of the system.
_REMEDIES = {
    errno.ENOSPC: 'make space', errno.EDQUOT: 'make space, or raise the quota',
    errno.EFBIG: 'raise the limit on the size of files', errno.EACCES: 'mend its permissions',
    errno.EPERM: 'mend its permissions', errno.EROFS: 'choose a place that is not read-only',
    errno.EMFILE: 'allow more open files (ulimit -n)', errno.ENFILE: 'allow more open files',
}


def remedy(error, otherwise='see what the system says of it'):
  """What helps against an error of the system, also where a library hands on its text alone."""
  text = str(error)
  for number, help_ in _REMEDIES.items():
    if getattr(error, 'errno', None) == number or os.strerror(number) in text:
      return help_
  return otherwise


def said(error):
  """What an exception says, in one or several lines, as someone would have written it.

  Libraries hand on each other's errors as Python prints them: in quotes, with line breaks as \\n,
  with the places in their own source, or with all that there is besides.
  """
  text = str(error)
  with contextlib.suppress(ValueError, SyntaxError):
    literal = ast.literal_eval(text) if text[:1] in ('"', "'") else text
    text = literal if isinstance(literal, str) else text
  text = re.sub(r"\('Non-boolean argument.*\)$", 'give true or false', text)  # of absl's flags
  text = re.sub(r'\s*\[source locations=.*', '', text, flags=re.DOTALL).replace('\\n', '\n')
  return re.sub(r' Other fields present: ".*?"$', '', text, flags=re.DOTALL | re.MULTILINE)

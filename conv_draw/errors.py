"""The one kind of error that a user can mend."""


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
  text = getattr(error, 'strerror', None) or str(error)
  return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)

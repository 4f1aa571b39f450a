"""The one kind of error that a user can mend."""


class UserError(ValueError):
  """A mistake outside the program: one line that names the thing and the remedy.

  Every command line prints the message alone on stderr and exits with status 2.
  """

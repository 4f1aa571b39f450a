"""The files that a command reads and writes, checked before anything is coded."""

import collections
import os
import sys
from typing import NamedTuple

from conv_draw.errors import UserError, reason
from conv_draw.machine import streams
from conv_draw.machine.files import write_file

SHOWN = 5  # file names in a message
PIPE = '-'  # standard output


class Plan(NamedTuple):
  """The files of one command."""

  pairs: list  # [(file to read, file to write)]
  folder: str | None  # of the output files, made with the first one
  others: list  # names of other files in the input folder


def plan(source, target, extensions, new_extension, overwrite=False):
  """`Plan` of one file, or of all those in a folder into another.

  A single file goes to `target`, or into it under its own name if that is a folder or ends in a
  slash; or to standard output, if it is `PIPE`.

  Raises:
    UserError: nothing to read, or something that may not be written (see `check`).
  """
  source, target = os.fspath(source), os.fspath(target)
  others, into = [], target
  if not os.path.exists(source):
    raise UserError(f'{source} does not exist: name a file that does')
  if target == PIPE:
    if os.path.isdir(source):
      raise UserError(f'{source} is a folder: name another one for what becomes of its files')
    check([source], [PIPE])
    return Plan([(source, PIPE)], None, [])
  if os.path.isdir(source):
    names, others = listing(source, extensions)
    pairs = [
        (os.path.join(source, old), os.path.join(target, new))
        for old, new in zip(names, renamed(names, new_extension), strict=True)]
  elif os.path.isdir(target) or _ends_in_slash(target):
    stem = os.path.splitext(os.path.basename(source))[0]
    pairs = [(source, os.path.join(target, stem + new_extension))]
  else:
    pairs, into = [(source, target)], None
  check([old for old, _ in pairs], [new for _, new in pairs], overwrite, into)
  return Plan(pairs, into, others)


def listing(folder, extensions):
  """(names of the files in `folder` with these extensions, names of the others), none hidden.

  Pipes, sockets and devices are among the others: reading them might never end. A broken link is a
  file, which its reader refuses.

  Raises:
    UserError: no folder, or no such files in it.
  """
  try:
    every = sorted(name for name in os.listdir(folder) if not name.startswith('.'))
  except FileNotFoundError:
    raise UserError(f'{folder} is no folder: name one with files in it') from None
  except OSError as e:
    raise UserError(f'{folder} is no folder that can be read ({reason(e)}): name another') from None
  names = [name for name in every if name.lower().endswith(extensions)
           and not _is_special(os.path.join(folder, name))]
  others = sorted(set(every) - set(names))
  if not names:
    instead = f', but {_few(others)}' if others else ''
    raise UserError(
        f'{folder} holds no files that end in {_few(extensions)}{instead}: name another folder')
  return names, others


def renamed(names, extension):
  """Different file names with that extension, in place of their own or behind it.

  Behind it where two would become the same name, also on file systems that ignore case: a.jpg and
  a.png become a.jpg.cdraw and a.png.cdraw.
  """
  found = {name: os.path.splitext(name)[0] + extension for name in names}
  while True:
    count = collections.Counter(new.casefold() for new in found.values())
    same = [name for name, new in found.items()
            if count[new.casefold()] > 1 and new != name + extension]
    if not same:
      return list(found.values())
    found |= {name: name + extension for name in same}


def check(sources, targets, overwrite=False, folder=None):
  """Raises `UserError` unless the output files may be written.

  Args:
    sources: the input files, which nothing may replace, by whatever name.
    targets: files to write.
    overwrite: whether they may replace files that exist.
    folder: of all of them, which need not exist; None: their folders must exist.
  Raises:
    UserError: they would replace a file, or cannot be written there.
  """
  if folder is not None:
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
      place = os.path.dirname(place)
    if not os.path.isdir(place):
      raise UserError(f'{place} is no folder: name one, or a place for a new one')
  read = {_identity(path): path for path in sources if os.path.exists(path)}
  existing = []
  for path in targets:
    if path == PIPE:
      streams.check_for_bytes('stdout')
      continue
    parent = os.path.dirname(path) or '.'
    if _ends_in_slash(path) or os.path.isdir(path):
      raise UserError(f'{path} is a folder: name a file')
    if _is_special(path):
      raise UserError(f'{path} is not a regular file: name another')
    if folder is None and not os.path.isdir(parent):
      raise UserError(f'{path} cannot be written: there is no folder {parent}, make it first')
    if os.path.exists(path) and _identity(path) in read:
      raise UserError(
          f'{path} would replace what it is made from, {read[_identity(path)]}: name another file')
    if os.path.lexists(path):
      existing.append(path)
  if existing and not overwrite:
    more = f' and {len(existing) - 1} more' if existing[1:] else ''
    raise UserError(
        f'{existing[0]}{more} would be overwritten: name another place, or say --overwrite')


def write(path, data, folder, overwrite):
  """Writes an output file, and makes its `folder` if it is not None.

  Raises:
    UserError: it cannot be written, or exists by now and is not to be overwritten.
  """
  if path == PIPE:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return
  if folder is not None:
    try:
      os.makedirs(folder, exist_ok=True)
    except OSError as e:
      raise UserError(
          f'the folder {folder} cannot be made ({reason(e)}): name another place') from None
  write_file(path, data, overwrite)


def left_out(folder, others):
  """One line about the files of `folder` that were left out, or none."""
  return [f'{folder}: left out {len(others)} other files: {_few(others)}'] if others else []


def _few(names):
  more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
  return ', '.join(names[:SHOWN]) + more


def _identity(path):
  """The device and inode of a file, which all links to it share."""
  status = os.stat(path)
  return status.st_dev, status.st_ino


def _is_special(path):
  """Whether the path is a folder, pipe, socket or device."""
  return os.path.exists(path) and not os.path.isfile(path)


def _ends_in_slash(path):
  return path.endswith(tuple(filter(None, (os.sep, os.altsep))))

"""Whether a run goes on with the data that it began with.

What a data set is known by is in a run's images.json: its name, the images' shape and grey levels,
their number, and of a folder digests of a few of its files. A folder may be moved and renamed, and
files added to it, removed or replaced, as long as most of those few are as they were.
"""

from conv_draw.errors import UserError


def of(images):
  """What `sets.Images` are known by, as JSON holds it."""
  return {'name': images.name, 'shape': list(images.shape), 'levels': images.grey_levels,
          'size': len(images), 'files': images.digests()}


def check(stored, images, workdir):
  """What has changed about the images of a run, in one line; '' if nothing has.

  Args:
    stored: as of `of`; earlier versions have not written 'size' and 'files'.
    images: `sets.Images` to go on with.
    workdir: of the run.
  Raises:
    UserError: they are another data set.
  """
  known, now = stored.get('files', {}), of(images)
  if any(stored[key] != now[key] for key in ('shape', 'levels')):
    raise _other(stored, now, workdir, '')
  if known:
    there = images.digests(list(known))
    if 2 * sum(there.get(key) == known[key] for key in known) < len(known):
      raise _other(stored, now, workdir, ' with other files')
  elif not now['files'] and stored['name'] != now['name']:
    raise _other(stored, now, workdir, '')
  if stored.get('size', now['size']) != now['size']:
    return (f'{now["name"]} has {now["size"]} images, and had {stored["size"]} before: training '
            'goes on with what is there now')
  if now['files'] and not known and stored['name'] != now['name']:
    return (f'{workdir} was trained on {stored["name"]}, and goes on with {now["name"]}: whether '
            'the files are the same was not recorded')
  return ''


def _other(stored, now, workdir, how):
  described = [f'{data["name"]} ({"x".join(map(str, data["shape"]))}, {data["levels"]} grey levels)'
               for data in (stored, now)]
  return UserError(
      f'{workdir} was trained on {described[0]}, and --config.data is {described[1]}{how}: name '
      f'the data that it was trained on, or another --workdir, with --config.train.start_from='
      f'{workdir} to begin with its parameters')

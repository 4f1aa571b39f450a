"""Whether a run continues with the data that it began with.

A run's images.json identifies its data set: name, shape and grey levels of the images, their
number, and of a folder the digests of a few files. A folder may be moved and renamed, and files
added, removed or replaced, as long as half of those few are unchanged.
"""

from conv_draw.errors import UserError


def of(images):
  """What identifies `sets.Images`, as a JSON object."""
  return {'name': images.name, 'shape': list(images.shape), 'levels': images.grey_levels,
          'size': len(images), 'files': images.digests()}


def check(stored, images, workdir):
  """What has changed about the images of a run, in one line; '' if nothing has.

  Args:
    stored: from `of`; earlier versions did not write 'size' and 'files'.
    images: `sets.Images` to continue with.
    workdir: of the run.
  Raises:
    UserError: they are another data set.
  """
  known, now = stored.get('files', {}), of(images)
  found = images.digests(list(known))
  other_files = 2 * sum(found.get(key) == known[key] for key in known) < len(known)
  renamed = stored['name'] != now['name']
  if other_files or stored['shape'] != now['shape'] or stored['levels'] != now['levels'] or (
      renamed and not known and not now['files']):
    described = [
        f'{data["name"]} ({"x".join(map(str, data["shape"]))}, {data["levels"]} grey levels)'
        for data in (stored, now)]
    raise UserError(
        f'{workdir} was trained on {described[0]}, and --config.data is {described[1]}'
        f'{" with other files" * other_files}: name the data that it was trained on, or another '
        f'--workdir, with --config.train.start_from={workdir} to begin with its parameters')
  if stored.get('size', now['size']) != now['size']:
    return (f'{now["name"]} has {now["size"]} images, and had {stored["size"]} before: training '
            'continues with the present ones')
  if renamed and not known and now['files']:
    return (f'{workdir} was trained on {stored["name"]}, and continues with {now["name"]}: whether '
            'the files are the same was not recorded')
  return ''

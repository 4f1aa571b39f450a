"""How much of an image is stored, for a rate that is asked for."""

HALVINGS = 6  # of the range of prices


def within(limit, size_of, segments, encode_again, price):
  """The most segments of latents that fit into a size, or one more of them, made thriftier to fit.

  Args:
    limit: bytes.
    size_of: of some segments, in bytes.
    segments: of all groups.
    encode_again: (how many groups, the price) -> segments; as `image.encode`.
    price: of the model; 0: what does not fit is left out whole.
  Returns:
    Segments; if not even the first one fits, it alone.
  """
  fit = next((n for n in range(len(segments), 0, -1) if size_of(segments[:n]) <= limit), 0)
  best = segments[: max(fit, 1)]
  if not price or fit == len(segments):
    return best
  low, high = 0.0, price  # the less an error is worth, the less is stored
  for _ in range(HALVINGS):
    middle = (low + high) / 2
    thriftier = encode_again(fit + 1, middle)
    if size_of(thriftier) <= limit:
      best, low = thriftier, middle
    else:
      high = middle
  return best

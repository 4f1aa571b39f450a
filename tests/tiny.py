"""Experiments made small enough for a test."""

from conv_draw.workdir.config import set_kind


def tiny(config):
  """The same experiment with a model that compiles and runs in moments."""
  progressive = config.model.kind == 'progressive'
  config.model.update(steps=5 if progressive else 3, features=4, latents=2)
  if progressive:
    config.progressive.post_filter = min(config.progressive.post_filter, 4)
  config.train.update(
      steps=12, batch_size=8, checkpoint_every=4, log_every=2, optimizer='adam', learning_rate=2e-3)
  config.spikes.update(window=20, trust_after=3)
  config.evaluate.update(batch_size=16, max_images=24)
  config.figures.update(samples=4, reconstructions=3)
  return config


def local(config, **changed):
  """The same experiment with small local autoregressive pixels above its canvas."""
  set_kind(config, 'local')
  config.local.update(features=4, layers=1, horizon=1)
  config.local.update(changed)
  return config

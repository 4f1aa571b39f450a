"""Experiments made small enough for a test."""


def tiny(config):
  """The same experiment with a model that compiles and runs in moments."""
  config.model.update(steps=5 if config.model.linear_paths else 3, features=4, latents=2,
                      restoration=4 if config.model.restoration else 0)
  config.train.update(steps=12, batch_size=8, checkpoint_every=4, log_every=2)
  config.spikes.update(window=20, trust_after=3)
  config.evaluate.update(batch_size=16, max_images=24)
  config.figures.update(samples=4, reconstructions=3)
  return config

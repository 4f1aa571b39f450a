"""The files in a run's directory."""

"""What lies in a run's directory."""

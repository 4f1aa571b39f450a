"""Training and exact evaluation."""

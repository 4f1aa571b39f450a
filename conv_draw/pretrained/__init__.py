"""Packaged models: workdirs with weights.npz in place of checkpoints."""

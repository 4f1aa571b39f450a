"""Trained models that come with the package: workdirs with weights.npz for checkpoints."""

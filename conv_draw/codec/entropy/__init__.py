"""Entropy coding under what a network predicts, the same on every machine."""

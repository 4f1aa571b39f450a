"""Data sets as random-access tables of uint8 images."""

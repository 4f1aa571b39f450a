"""Beyond the paper: local autoregressive pixels, in floats and as an integer network."""

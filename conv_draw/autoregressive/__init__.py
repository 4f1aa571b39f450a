"""Beyond the paper: local autoregressive models of pixels, in floats and in integers."""

"""Rate and distortion beside the classical codecs."""

"""Beyond the paper: one file for every rate, by a transform codec with conv DRAW's decoder."""

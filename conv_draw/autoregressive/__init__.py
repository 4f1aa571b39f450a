"""Beyond the paper: pixels that see their neighbours, in real and in whole numbers."""

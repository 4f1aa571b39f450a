"""The layout of files: FORMAT.md says what is where, byte by byte."""

"""Figures, tables, pictures and the web page about runs."""

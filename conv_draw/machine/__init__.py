"""Devices, hosts, signals, standard streams and files."""

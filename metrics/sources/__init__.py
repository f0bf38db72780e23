"""Adapters: a window of one cluster in, rows of the catalogue out."""

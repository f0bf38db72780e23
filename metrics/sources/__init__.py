"""Adapters that turn a window of one cluster into rows of the catalogue."""

"""Prometheus, and what speaks its API, as a source."""

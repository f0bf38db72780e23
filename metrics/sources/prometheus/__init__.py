"""Prometheus, and servers with its API, as a source."""

"""A cluster's source: how it is configured, reached, tested and shown."""

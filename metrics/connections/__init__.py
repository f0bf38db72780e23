"""Which source a cluster is read from, how it is configured, reached, tested and shown."""

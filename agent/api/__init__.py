"""What the hub's pulls read: the local HTTP API and its answers."""

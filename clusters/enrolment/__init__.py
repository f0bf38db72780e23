"""The way of a cluster from a join token to its first data."""

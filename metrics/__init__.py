"""Numbers over time: pulled from clusters, rolled up, stored, queried."""

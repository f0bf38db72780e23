"""The worker's side: an HTTP client for one service of one cluster."""

"""The gap ledger: what became of every window, and why something is missing. Pure."""

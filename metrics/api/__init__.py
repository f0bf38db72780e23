"""REST endpoints of nodes, pods, ranges and the gap ledger."""

"""Rollups: the arithmetic that turns minutes into wider buckets. Pure."""

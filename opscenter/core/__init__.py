"""Shared kernel: imports none of our apps."""
